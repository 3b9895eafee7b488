use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use super::*;

fn message() -> Message {
    Message {
        text: "benchd: run r1 finished".into(),
        occasion: Occasion::Finished,
        run: "r1".into(),
        plan: "night".into(),
        host: "gpu1".into(),
        exit_code: Some(0),
        lanes: 2,
        lanes_failed: 0,
        requests_failed: 0,
        duration_s: 1.5,
        report: None,
    }
}

/// Reads one request to the end of its body.
fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "the request was cut");
        bytes.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse::<usize>()
                    .ok()
            })
            .unwrap();
        if body.len() >= length {
            return body.to_owned();
        }
    }
}

/// Answers one connection after another with these statuses; gives the bodies.
fn webhook(statuses: &'static [&'static str]) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/hook/topsecretkey", listener.local_addr().unwrap());
    let bodies = thread::spawn(move || {
        let mut bodies = Vec::new();
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            bodies.push(request(&mut stream));
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            .unwrap();
        }
        bodies
    });
    (address, bodies)
}

#[tokio::test]
async fn a_message_has_text_for_slack_and_fields_and_is_tried_twice() {
    let (address, bodies) = webhook(&["503 Busy", "200 OK"]);
    send(&address, &message()).await.unwrap();
    let bodies = bodies.join().unwrap();
    assert_eq!(bodies.len(), 2);
    let json: serde_json::Value = serde_json::from_str(&bodies[1]).unwrap();
    assert_eq!(json["text"], "benchd: run r1 finished");
    assert_eq!(json["occasion"], "finished");
    assert_eq!(json["exit_code"], 0);
}

#[tokio::test]
async fn a_refusal_is_not_repeated_and_no_error_shows_the_address() {
    let (address, bodies) = webhook(&["404 Not Found"]);
    let error = send(&address, &message()).await.unwrap_err();
    assert_eq!(bodies.join().unwrap().len(), 1);
    assert_eq!(error.to_string(), "the webhook answered with status 404");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let client = client().unwrap();
    let error = attempt(&client, &format!("http://{closed}/hook/topsecretkey"), &message())
        .await
        .unwrap_err();
    assert!(!error.to_string().contains("topsecretkey"), "{error}");
}

/// The handshake gets as far as the certificate, which nobody has signed.
#[tokio::test]
async fn an_unknown_certificate_is_refused() {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = client().unwrap();
    let certificate = CertificateDer::from_pem_slice(include_bytes!("self-signed.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("self-signed.key")).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let server = thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        // The client breaks it off.
        while tls.is_handshaking() {
            if tls.complete_io(&mut tcp).is_err() {
                return true;
            }
        }
        false
    });
    let error = attempt(&client, &format!("https://127.0.0.1:{port}/hook"), &message())
        .await
        .unwrap_err();
    assert!(
        error.to_string().to_lowercase().contains("certificate"),
        "{error}"
    );
    assert!(server.join().unwrap(), "the client went on with a stranger");
}
