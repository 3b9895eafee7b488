//! Which line of a dead server's output says best why it died. What a kind's own lines mean stands in its file; errors of
//! CUDA, Python, C++, Rust and Go look alike everywhere.

/// What a line says of a server's death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// Why a process ended: CUDA, memory, a signal, an assertion, an exception.
    Why,
    /// That a process of the server ended.
    That,
    /// Some error.
    Error,
    /// What follows from the death, or has nothing to do with it.
    Nothing,
}

/// Texts of lines that say why a process ends.
const REASONS: [&str; 21] = [
    "CUDA error",
    "CUDA out of memory",
    "CUDA driver error",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
    "NCCL error",
    "HIP error",
    "out of memory",
    "OutOfMemoryError",
    "MemoryError",
    "Cannot allocate memory",
    "illegal memory access",
    "Segmentation fault",
    "segmentation violation",
    "SIGSEGV",
    "Bus error",
    "Fatal Python error",
    "GGML_ASSERT",
    "terminate called after",
    "panicked at",
    "panic: ",
];

/// What any program's line says.
fn commonly(line: &str) -> Says {
    if line.contains(" HTTP/1.") {
        // An access line: `"POST /v1/chat/completions HTTP/1.1" 500 Internal Server Error`.
        Says::Nothing
    } else if is_traceback(line) {
        Says::Nothing
    } else if REASONS.iter().any(|reason| line.contains(reason)) || is_exception(line) {
        Says::Why
    } else if ["ERROR", "Error", "error:", "FATAL", "fatal"]
        .iter()
        .any(|word| line.contains(word))
    {
        Says::Error
    } else {
        Says::Nothing
    }
}

/// The lines of a Python traceback above its last: its head, its frames, and the source that they quote, with or without a
/// logger's words before them.
fn is_traceback(line: &str) -> bool {
    let text = line.rsplit_once("] ").map_or(line, |(_, text)| text);
    text.starts_with("  ") || text.starts_with("Traceback (") || text.starts_with("File \"")
}

/// The last line of a Python traceback: `torch.AcceleratorError: …`, with or without a logger's words before it.
fn is_exception(line: &str) -> bool {
    line.match_indices(": ").any(|(at, _)| {
        let name = line[..at].rsplit([' ', ']', ')']).next().unwrap_or_default();
        let class = name.rsplit('.').next().unwrap_or_default();
        class.starts_with(|first: char| first.is_ascii_uppercase())
            && class.len() > "Error".len()
            && (class.ends_with("Error") || class.ends_with("Exception"))
    })
}

/// Looks through the lines, oldest first. Who notices a death says so after the one that died has said why; what comes
/// after both is said by those who are left.
pub(crate) fn best<'a>(
    lines: impl Iterator<Item = &'a str>,
    known: impl Fn(&str) -> Option<Says>,
) -> Option<&'a str> {
    let (mut why, mut error) = (None, None);
    for line in lines {
        let line = line.trim();
        match known(line).unwrap_or_else(|| commonly(line)) {
            Says::Why => why = Some(line),
            Says::That => return why.or(Some(line)),
            Says::Error => error = Some(line),
            Says::Nothing => {}
        }
    }
    why.or(error)
}

#[cfg(test)]
mod tests {
    use crate::last_words;

    #[test]
    fn a_worker_that_was_killed_is_named_by_who_noticed() {
        let vllm = "INFO 11-24 [loggers.py:248] Engine 000: Running: 64 reqs\n\
             (APIServer pid=7) ERROR 11-24 [core_client.py:610] Engine core proc EngineCore_DP0 died unexpectedly, shutting down client.\n\
             (APIServer pid=7) ERROR 11-24 [async_llm.py:704] AsyncLLM output_handler failed.\n\
             (APIServer pid=7) ERROR 11-24 vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.\n\
             INFO:     127.0.0.1:40000 - \"POST /v1/chat/completions HTTP/1.1\" 500 Internal Server Error\n\
             INFO:     Finished server process [7]";
        let line = last_words(vllm.lines()).unwrap();
        assert!(line.ends_with("Engine core proc EngineCore_DP0 died unexpectedly, shutting down client."));

        // vLLM 0.26.0, its engine killed by signal 9: nothing but what follows from it, on every request.
        let aftermath = "(APIServer pid=7) ERROR 11-25 [serving.py:830] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.\n\
             (APIServer pid=7) ERROR 11-25 [server_utils.py:356] Traceback (most recent call last):\n\
             (APIServer pid=7) ERROR 11-25 [server_utils.py:356]   File \"/vllm/serving.py\", line 235, in render_chat_request\n\
             (APIServer pid=7) ERROR 11-25 [server_utils.py:356]     raise self.engine_client.dead_error";
        let told = last_words(vllm.lines().take(2).chain(aftermath.lines()));
        assert!(
            told.unwrap()
                .ends_with("died unexpectedly, shutting down client.")
        );

        let sglang = "[2026-11-24 19:00:00] Decode batch, #running-req: 64\n\
             [2026-11-24 19:00:05] Subprocess scheduler_0 (pid=3417555) crashed with exit code -9. Triggering SIGQUIT for cleanup...\n\
             [2026-11-24 19:00:05] SIGQUIT received. signum=None, frame=None. It usually means one child failed.\n\
             [2026-11-24 19:00:10] kill_process_tree called: parent_pid=1, include_parent=True, pid=1";
        let line = last_words(sglang.lines()).unwrap();
        assert!(
            line.contains("scheduler_0 (pid=3417555) crashed with exit code -9"),
            "{line}"
        );
    }

    #[test]
    fn a_worker_that_said_why_is_quoted() {
        let vllm = "ERROR 11-24 [core.py:866] EngineCore encountered a fatal error.\n\
             ERROR 11-24 [core.py:866] Traceback (most recent call last):\n\
             ERROR 11-24 [core.py:866] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n\
             ERROR 11-24 [core_client.py:610] Engine core proc EngineCore_DP0 died unexpectedly, shutting down client.\n\
             RuntimeError: cannot schedule new futures after shutdown";
        let line = last_words(vllm.lines()).unwrap();
        assert!(
            line.ends_with("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "{line}"
        );

        let sglang = "[2026-11-24 19:00:00] Scheduler hit an exception: Traceback (most recent call last):\n\
             \x20 File \"scheduler.py\", line 371, in run_scheduler_process\n\
             torch.AcceleratorError: CUDA error: an illegal memory access was encountered\n\
             Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n\
             [2026-11-24 19:00:00] SIGQUIT received. signum=None, frame=None. It usually means one child failed.";
        let line = last_words(sglang.lines()).unwrap();
        assert!(line.starts_with("torch.AcceleratorError: CUDA error"), "{line}");

        let plain = "[2026-11-24 19:00:00] Scheduler hit an exception: Traceback (most recent call last):\n\
             ValueError: cannot schedule prefill\n\
             [2026-11-24 19:00:01] Subprocess scheduler_0 (pid=7) crashed with exit code 1. Triggering SIGQUIT for cleanup...";
        assert_eq!(
            last_words(plain.lines()),
            Some("ValueError: cannot schedule prefill")
        );

        let llamacpp = "slot update_slots: id 0 | task 7 |\n/src/ggml/src/ggml.c:3114: GGML_ASSERT(ggml_can_mul_mat(a, b)) failed";
        assert!(last_words(llamacpp.lines()).unwrap().contains("GGML_ASSERT"));

        let ollama = "CUDA error: out of memory\n\
             time=2026-11-24T19:00:00Z level=ERROR source=server.go:1265 msg=\"llama runner terminated\" error=\"exit status 2\"";
        assert_eq!(last_words(ollama.lines()), Some("CUDA error: out of memory"));
    }

    #[test]
    fn a_log_without_an_error_says_nothing() {
        let calm = "INFO:     Uvicorn running on http://127.0.0.1:8000\n\
             INFO:     127.0.0.1:40000 - \"POST /v1/chat/completions HTTP/1.1\" 500 Internal Server Error";
        assert_eq!(last_words(calm.lines()), None);
        assert_eq!(
            last_words(["starting", "error: no such model"].into_iter()),
            Some("error: no such model")
        );
    }
}
