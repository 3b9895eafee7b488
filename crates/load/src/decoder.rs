//! The decoder's thread: turns blocks of events into answers, away from the load thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::batch::{Completed, Progress};
use crate::client::{Assembly, Block, Closing};
use benchd_core::record::StreamShape;

/// What the requests of a batch have in common, as far as decoding goes.
#[derive(Debug)]
pub(super) struct Decoding {
    pub(super) shape: StreamShape,
    pub(super) reasoning_fields: &'static [&'static str],
    pub(super) out: UnboundedSender<Completed>,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: CancellationToken,
}

/// A request's place in its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) tag: u64,
    pub(super) stream: u32,
}

/// What the load thread says. `key` is a request's own for the life of the engine.
pub(super) enum Message {
    /// Events of a request.
    Block {
        key: u64,
        batch: Arc<Decoding>,
        block: Block,
    },
    /// A request is over; nothing more of it follows.
    End {
        key: u64,
        batch: Arc<Decoding>,
        place: Place,
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
                place,
                closing,
            } => {
                let assembly = open.remove(&key).unwrap_or_else(|| fresh(&batch));
                let answer = assembly.finish(closing);
                if !answer.is_ok() {
                    batch.progress.failed.fetch_add(1, Ordering::Relaxed);
                }
                batch.progress.done.fetch_add(1, Ordering::Relaxed);
                let Place { index, tag, stream } = place;
                if batch
                    .out
                    .send(Completed {
                        index,
                        tag,
                        stream,
                        answer,
                    })
                    .is_err()
                {
                    // Nobody takes the answers any more, so nobody needs the requests.
                    batch.cancel.cancel();
                }
            }
            Message::Then(action) => action(),
        }
    }
}
