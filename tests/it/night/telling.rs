//! The webhook, and that no secret is anywhere.

use super::*;
use crate::support::webhook::{posted, webhook};

#[test]
fn no_secret_is_anywhere_and_the_webhook_is_told() {
    let (port, messages) = webhook();
    let night = Night::new(
        &[
            framework(
                "whole",
                "echo out $HF_TOKEN; echo err $PLAIN >&2; echo $LITERAL_API_KEY;",
                "    env: { PLAIN: \"${FROM_OUTSIDE}\", LITERAL_API_KEY: sk-literal-in-the-plan }\n",
            ),
            framework(
                "dies",
                "echo dying with $HF_TOKEN >&2; exit 9;",
                "    args: [--api-key, argument-secret-1]\n",
            ),
        ]
        .concat(),
        3,
        "notify: { webhook: \"${BENCHD_WEBHOOK}\" }\n",
    );
    let output = night
        .command()
        .env("HF_TOKEN", "hf_VerySecret\"Value")
        .env("FROM_OUTSIDE", "outside-secret-value")
        .env(
            "BENCHD_WEBHOOK",
            format!("http://127.0.0.1:{port}/services/T0/hook-key-abc"),
        )
        .env("BENCHD_LOG", "trace")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let mut everything: Vec<(String, String)> = vec![("what was printed".into(), text(&output))];
    for root in ["results", "logs"] {
        for file in files(&night.path(root)) {
            let bytes = fs::read(&file).unwrap();
            everything.push((
                file.display().to_string(),
                String::from_utf8_lossy(&bytes).into_owned(),
            ));
        }
    }
    let told: Vec<serde_json::Value> = messages.try_iter().collect();
    everything.push(("webhook".into(), serde_json::to_string(&told).unwrap()));
    for secret in [
        "VerySecret",
        "outside-secret",
        "sk-literal",
        "argument-secret",
        "hook-key-abc",
    ] {
        for (place, text) in &everything {
            assert!(!text.contains(secret), "{secret} is in {place}:\n{text}");
        }
    }
    let log = fs::read_to_string(night.path("logs/latest/whole-sim.log")).unwrap();
    assert!(
        log.contains("out <redacted>") && log.contains("err <redacted>"),
        "{log}"
    );
    assert!(
        night.journal().contains("dying with <redacted>"),
        "{}",
        night.journal()
    );

    let occasions: Vec<&str> = told.iter().map(|m| m["occasion"].as_str().unwrap()).collect();
    assert_eq!(occasions, ["lane_failed", "finished"], "{told:?}");
    let last = &told[1];
    assert_eq!(
        (last["exit_code"].as_u64(), last["lanes_failed"].as_u64()),
        (Some(1), Some(1))
    );
    assert!(last["text"].as_str().unwrap().contains("finished"), "{last}");
    assert!(
        Path::new(last["report"].as_str().unwrap()).ends_with("report.html"),
        "{last}"
    );
}

#[test]
fn a_webhook_that_nobody_answers_changes_nothing() {
    let port = free_port();
    let night = Night::new(
        &framework("f", "", ""),
        2,
        &format!("notify: {{ webhook: \"http://127.0.0.1:{port}/hook-key-abc\" }}\n"),
    );
    let output = night.command().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let log = fs::read_to_string(night.path("logs/latest/benchd.log")).unwrap();
    assert!(
        log.contains("the webhook was not told") && !log.contains("hook-key-abc"),
        "{log}"
    );
}

#[test]
fn a_failed_lanes_message_is_not_lost_when_the_run_ends_right_after() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tx, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // The first try fails, the second comes after a pause in which the run has long ended.
        let mut refused = false;
        for stream in listener.incoming().map(Result::unwrap) {
            let message = posted(&stream);
            let busy = message["occasion"] == "lane_failed" && !std::mem::replace(&mut refused, true);
            let status = if busy { "503 Busy" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            (&stream).write_all(answer.as_bytes()).unwrap();
            let _ = tx.send((message["occasion"].clone(), busy));
        }
    });
    let night = Night::new(
        &framework("dies", "exit 9;", ""),
        1,
        &format!("notify: {{ webhook: \"http://127.0.0.1:{port}/hook\" }}\n"),
    );
    let output = night.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told: Vec<_> = told.try_iter().collect();
    assert!(told.contains(&("lane_failed".into(), false)), "{told:?}");
    assert!(told.contains(&("finished".into(), false)), "{told:?}");
}

/// Serves one message over TLS, with a certificate that is trusted only where its file is named.
fn tls_webhook() -> (u16, thread::JoinHandle<String>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(include_bytes!("../../fixtures/tls/webhook.pem")).unwrap()],
            PrivateKeyDer::from_pem_slice(include_bytes!("../../fixtures/tls/webhook.key")).unwrap(),
        )
        .unwrap();
    let served = thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let tls = rustls::ServerConnection::new(std::sync::Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, tcp);
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        // The body is JSON without a line end and closes with its last brace.
        while !said.ends_with(b"}") {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the message was cut");
            said.extend_from_slice(&buffer[..n]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        String::from_utf8(said).unwrap()
    });
    (port, served)
}

#[test]
fn a_webhook_is_told_over_tls() {
    let (port, served) = tls_webhook();
    let night = Night::new(
        &framework("f", "", ""),
        1,
        &format!("notify: {{ webhook: \"https://127.0.0.1:{port}/hook-key-abc\" }}\n"),
    );
    let certificate = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/webhook.pem");
    let output = night
        .command()
        .env("SSL_CERT_FILE", certificate)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let log = fs::read_to_string(night.path("logs/latest/benchd.log")).unwrap();
    assert!(log.contains("the webhook was told"), "{log}");
    let said = served.join().unwrap();
    assert!(
        said.starts_with("POST /hook-key-abc ") && said.contains("\"occasion\":\"finished\""),
        "{said}"
    );
}

#[test]
fn a_machine_without_ca_certificates_measures_all_the_same() {
    let night = Night::new(&framework("f", "", ""), 1, "");
    let mut command = night.command();
    let output = command
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", "/nowhere")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn no_process_shows_a_secret_in_its_title() {
    let night = Night::new(
        &framework(
            "f",
            "echo $HF_TOKEN; echo $PLAIN;",
            "    env: { PLAIN: \"${FROM_OUTSIDE}\" }\n",
        ),
        400,
        "notify: { webhook: \"${BENCHD_WEBHOOK}\" }\n",
    );
    let mut command = night.command();
    command
        .env("HF_TOKEN", "hf_VerySecretValue")
        .env("FROM_OUTSIDE", "outside-secret-value")
        .env(
            "BENCHD_WEBHOOK",
            format!("http://127.0.0.1:{}/hook-key-abc", free_port()),
        );
    let child = long_run(&night, &mut command);
    let benchd = child.0.as_ref().unwrap().id();
    let server = leader(&night.journal());
    for pid in [benchd, server.as_raw().cast_unsigned()] {
        let mut titles = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            titles += &fs::read_to_string(task.unwrap().path().join("comm")).unwrap();
        }
        assert!(titles.contains("benchd"), "{titles}");
        for secret in ["VerySecret", "outside-secret", "hook-key-abc"] {
            assert!(
                !titles.contains(secret),
                "{secret} is in the title of {pid}: {titles}"
            );
        }
    }
    kill(Pid::from_raw(benchd.cast_signed()), Signal::SIGTERM).unwrap();
    let output = child.wait();
    assert_eq!(output.status.code(), Some(143), "{}", text(&output));
    nothing_left(&night.journal());
}
