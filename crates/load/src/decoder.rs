//! The decoder's thread: turns blocks of events into answers, away from the load thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::batch::Progress;
use crate::client::{Answer, Assembly, Block, Closing};
use benchd_core::record::StreamShape;

/// What the requests of a batch have in common, as far as decoding goes.
#[derive(Debug)]
pub(super) struct Decoding {
    pub(super) shape: StreamShape,
    pub(super) reasoning_fields: &'static [&'static str],
    pub(super) out: UnboundedSender<Answer>,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: CancellationToken,
}

/// What the load thread says. `key` is a request's own for the life of the engine.
pub(super) enum Message {
    Block {
        key: u64,
        batch: Arc<Decoding>,
        block: Block,
    },
    /// A request is over, nothing more of it follows. `index`: its position in the batch; `stream`: the stream of the
    /// closed loop that sent it, or the lowest number that no request in flight of the open loop had.
    End {
        key: u64,
        batch: Arc<Decoding>,
        index: u32,
        stream: u32,
        closing: Closing,
    },
    /// To be done when everything before has been.
    Then(Box<dyn FnOnce() + Send>),
}

/// Decodes until all senders are gone.
pub(super) fn decode_all(messages: &mpsc::Receiver<Message>, keep_stamps: bool) {
    let mut open: HashMap<u64, Assembly> = HashMap::new();
    let fresh =
        |batch: &Decoding| Assembly::new(batch.shape, batch.reasoning_fields).keeping_stamps(keep_stamps);
    for message in messages {
        match message {
            Message::Block { key, batch, block } => {
                open.entry(key).or_insert_with(|| fresh(&batch)).block(&block);
            }
            Message::End {
                key,
                batch,
                index,
                stream,
                closing,
            } => {
                let assembly = open.remove(&key).unwrap_or_else(|| fresh(&batch));
                let mut answer = assembly.finish(closing);
                answer.record.index = index;
                answer.record.stream = stream;
                if !answer.record.is_ok() {
                    batch.progress.failed.fetch_add(1, Ordering::Relaxed);
                }
                batch.progress.done.fetch_add(1, Ordering::Relaxed);
                if batch.out.send(answer).is_err() {
                    // Nobody takes the answers any more, so nobody needs the requests.
                    batch.cancel.cancel();
                }
            }
            Message::Then(action) => action(),
        }
    }
}
