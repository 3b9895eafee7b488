//! One streaming request, timed.
//!
//! A request gets a connection of its own, opened before its clock starts: no pool, so no request is sent
//! again on a connection that went stale; no proxy; no retry. The path between the socket and a time stamp is
//! this room's own:
//!
//! ```text
//! exchange   socket, clock, limit, cancel            the only part with I/O
//!   receive  read, with the kernel's time of arrival
//! intake     bytes + time -> stamped events, end
//!   http     HTTP/1.1 response -> head, body pieces
//!   sse      body pieces -> events in a block
//! ─────────  blocks of events leave the timed path here
//! answer     events -> times, text, usage, outcome
//!   chunk    one event's JSON
//! ```

mod answer;
mod block;
mod chunk;
mod exchange;
mod http;
mod intake;
mod receive;
mod sse;
mod target;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use answer::{Answer, ServerStamp};
pub(crate) use answer::{Assembly, Closing};
pub use block::{Block, Stamp};
pub(crate) use exchange::{ConnectFailure, Connection, Sink, exchange};
pub use intake::{End, Intake};
pub use sse::{EventTooLong, Flow, Framer};
pub(crate) use target::{Request, RequestHead};
pub use target::{Target, TargetError};

use benchd_core::record::StreamShape;

/// How the answer to a one-off request is read.
#[derive(Debug, Clone)]
pub struct OneOff {
    /// Limit for opening the connection, and again from the send to the end.
    pub timeout: Duration,
    /// What the stream must show to count as whole.
    pub shape: StreamShape,
    /// Names of the reasoning field; the first that is present wins.
    pub reasoning_fields: &'static [&'static str],
    /// Stops the request at once.
    pub cancel: CancellationToken,
}

/// Sends one streaming request from any tokio runtime and waits for its end: for readiness and for probing
/// prompt lengths, where times do not matter much. Whatever happens to the request is told by the answer.
///
/// # Errors
/// Only a target that can't be put into a request.
pub async fn request_once(target: &Target, body: Bytes, how: OneOff) -> Result<Answer, TargetError> {
    let request = target.request_head()?.with_body(body);
    let mut assembly = Assembly::new(how.shape, how.reasoning_fields);
    let closing = match Connection::open(target.addr, how.timeout, &how.cancel).await {
        Ok(connection) => {
            exchange(
                connection,
                request,
                how.timeout,
                None,
                &how.cancel,
                &mut Inline(&mut assembly),
            )
            .await
        }
        Err(failure) => failure.closing(None),
    };
    Ok(assembly.finish(closing))
}

/// Decodes where it stands.
struct Inline<'a>(&'a mut Assembly);

impl Sink for Inline<'_> {
    fn block(&mut self, block: Block) {
        self.0.block(&block);
    }
}
