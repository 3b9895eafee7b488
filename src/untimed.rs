//! The client for calls whose time nobody measures: control calls to servers, the webhook.

/// A builder for such a client. TLS needs its cryptography chosen once a process, before the first client, or
/// reqwest panics; so every client is made from here.
pub fn untimed_client() -> reqwest::ClientBuilder {
    // Only the first call counts; that it was chosen already is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
