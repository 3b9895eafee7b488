//! A simulated inference server: the project's ground truth for timing, and the server that misbehaves on demand.
//!
//! Two threads. The *front* (`front`) accepts, reads and parses, and answers what needs no engine. The *emitter*
//! (`emitter`) holds the pure scheduling model (`engine`) and writes each chunk at its due time, with the
//! monotonic time of its emission inside. Each fault that a test needs is a flag, a request header, or a control
//! call (see [`KINDS`]).
//!
//! ```text
//!   socket -> front: read, parse, tokenise, script ----orders----> emitter: engine -> due -> write -> socket
//!                ^----------------------------------finished-----------/
//! ```
//!
//! - [`run`] is `benchd sim`, a whole process; [`Server`] is the same within a process, without process-level faults.
//! - [`Args`]: the flags, all of them; [`KINDS`]: the faults.
//! - [`tokenizer`]: how prompts are counted; [`monotonic_ns`]: the clock of the stamps.
//!
//! Own endpoints: `GET /sim/stats` (how late events went out; `?reset=1` forgets), `POST /sim/fault`
//! `{"faults": ["cut@3:5"], "relative": true}`, `GET` and `DELETE /sim/fault`. The header `x-sim-fault: cut:3; crlf`
//! makes faults for one request.

mod api;
mod args;
mod cache;
mod chat;
mod children;
mod clock;
mod dialect;
mod emitter;
mod engine;
mod error;
mod faults;
mod front;
mod gpu_hook;
mod http;
mod lock;
mod mailbox;
mod metrics;
mod ollama;
mod process_faults;
mod routes;
mod run;
mod server;
mod stream;
mod stream_faults;
mod text;
pub mod tokenizer;
mod wire;
mod worker;

pub use args::Args;
pub use clock::monotonic_ns;
pub use error::SimError;
pub use faults::{FaultError, KINDS};
pub use run::run;
pub use server::Server;
