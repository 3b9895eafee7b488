//! The lines of the document, in its order.

use super::{Finding, ModelEvidence};
use crate::hypotheses::roles::Role;
use benchd_plan::ScenarioKind;

/// The frameworks that the document compares.
const THREE: [Role; 3] = [Role::Sglang, Role::Vllm, Role::Ollama];

/// One line of the document.
pub(super) struct Item {
    pub(super) section: &'static str,
    pub(super) scenario: Option<ScenarioKind>,
    pub(super) expected: &'static str,
    pub(super) expected_ko: &'static str,
    /// Whom it speaks of: it is looked for where all of these measured.
    pub(super) of: &'static [Role],
    pub(super) find: fn(&ModelEvidence<'_, '_>) -> Finding,
}

/// All of them, in the document's order.
pub(super) const ITEMS: [Item; 19] = [
    Item {
        section: "5.1",
        scenario: Some(ScenarioKind::Single),
        expected: "Ollama may be competitive in TTFT",
        expected_ko: "Ollama가 GGUF 최적화로 TTFT에서 경쟁력을 보일 수 있음",
        of: &THREE,
        find: |l| l.single_ttft(),
    },
    Item {
        section: "5.1",
        scenario: Some(ScenarioKind::Single),
        expected: "SGLang and vLLM show a similar throughput",
        expected_ko: "SGLang/vLLM은 비슷한 수준의 처리량을 보일 것",
        of: &[Role::Sglang, Role::Vllm],
        find: |l| l.single_throughput(),
    },
    Item {
        section: "5.1",
        scenario: Some(ScenarioKind::Single),
        expected: "SGLang and vLLM use more GPU memory than Ollama (FP16 against Q4)",
        expected_ko: "GPU 메모리 사용량은 SGLang/vLLM(FP16) > Ollama(Q4) 예상",
        of: &THREE,
        find: |l| l.memory(),
    },
    Item {
        section: "5.2",
        scenario: Some(ScenarioKind::Concurrent),
        expected: "SGLang and vLLM: throughput rises with concurrency",
        expected_ko: "SGLang/vLLM: 동시성 증가에 따라 처리량 증가 (연속 배칭 효과)",
        of: &[Role::Sglang, Role::Vllm],
        find: |l| l.batching(),
    },
    Item {
        section: "5.2",
        scenario: Some(ScenarioKind::Concurrent),
        expected: "Ollama: latency rises linearly with concurrency, throughput stands still",
        expected_ko: "Ollama: 동시성 증가 시 선형적 레이턴시 증가, 처리량 정체",
        of: &[Role::Ollama],
        find: |l| l.serial(),
    },
    Item {
        section: "5.2",
        scenario: Some(ScenarioKind::Concurrent),
        expected: "Ollama may time out or fail at 64 concurrent requests",
        expected_ko: "64 동시 요청에서 Ollama는 타임아웃 또는 에러 발생 가능",
        of: &[Role::Ollama],
        find: |l| l.fails_under_load(),
    },
    Item {
        section: "5.3",
        scenario: Some(ScenarioKind::LongContext),
        expected: "SGLang keeps a stable TTFT on long prompts (chunked prefill)",
        expected_ko: "SGLang의 Chunked Prefill이 긴 입력에서 안정적인 TTFT 제공",
        of: &[Role::Sglang],
        find: |l| l.stable_prefill(),
    },
    Item {
        section: "5.3",
        scenario: Some(ScenarioKind::LongContext),
        expected: "vLLM performs alike, since it has chunked prefill too",
        expected_ko: "vLLM도 Chunked Prefill 지원으로 유사한 성능",
        of: &[Role::Sglang, Role::Vllm],
        find: |l| l.like_prefill(),
    },
    Item {
        section: "5.3",
        scenario: Some(ScenarioKind::LongContext),
        expected: "Ollama's TTFT may rise a lot on long prompts",
        expected_ko: "Ollama는 긴 입력에서 TTFT가 크게 증가할 수 있음",
        of: &THREE,
        find: |l| l.slow_prefill(),
    },
    Item {
        section: "5.4",
        scenario: Some(ScenarioKind::PrefixCache),
        expected: "SGLang: TTFT of later requests falls a lot (RadixAttention)",
        expected_ko: "SGLang: RadixAttention 자동 접두사 감지로 후속 요청에서 TTFT 대폭 감소",
        of: &[Role::Sglang],
        find: |l| l.cache_helps(Role::Sglang),
    },
    Item {
        section: "5.4",
        scenario: Some(ScenarioKind::PrefixCache),
        expected: "vLLM: the same with prefix caching, nothing without it",
        expected_ko: "vLLM: Prefix Caching 활성화 시 유사한 효과, 미활성화 시 캐시 이점 없음",
        of: &[Role::Vllm, Role::Control],
        find: |l| Finding::all(vec![l.cache_helps(Role::Vllm), l.no_cache(Role::Control)]),
    },
    Item {
        section: "5.4",
        scenario: Some(ScenarioKind::PrefixCache),
        expected: "Ollama: no cache, the same TTFT in all requests",
        expected_ko: "Ollama: 캐시 메커니즘 없어 모든 요청에서 동일한 TTFT",
        of: &[Role::Ollama],
        find: |l| l.no_cache(Role::Ollama),
    },
    Item {
        section: "5.5",
        scenario: Some(ScenarioKind::Korean),
        expected: "Korean prompts take 1.5 to 3 times the tokens of English ones of the same meaning",
        expected_ko: "한국어 입력은 동일 의미 영어 대비 1.5~3배 많은 토큰 소비",
        of: &THREE,
        find: |l| l.korean_tokens(),
    },
    Item {
        section: "5.5",
        scenario: Some(ScenarioKind::Korean),
        expected: "Tokens per second are alike in Korean and English, information per second is lower in Korean",
        expected_ko: "Token Throughput(tok/s)는 한국어/영어 간 유사하나, 실질 정보 처리량(정보/sec)은 한국어가 낮을 수 있음",
        of: &THREE,
        find: |l| l.korean_information(),
    },
    Item {
        section: "5.5",
        scenario: Some(ScenarioKind::Korean),
        expected: "Ollama's tokenizer (GGUF) may have a larger overhead for Korean",
        expected_ko: "Ollama(GGUF)의 토크나이저가 한국어에 덜 최적화되어 있을 경우 토큰 오버헤드가 더 클 수 있음",
        of: &THREE,
        find: |l| l.ollama_tokenizer(),
    },
    Item {
        section: "5.5",
        scenario: Some(ScenarioKind::Korean),
        expected: "SGLang and vLLM have a similar token efficiency, since they use the same tokenizer",
        expected_ko: "SGLang/vLLM은 동일 HuggingFace 토크나이저를 사용하므로 유사한 토큰 효율성 예상",
        of: &[Role::Sglang, Role::Vllm],
        find: |l| l.same_tokenizer(),
    },
    Item {
        section: "9.2",
        scenario: None,
        expected: "Serving at scale: SGLang >= vLLM >> Ollama",
        expected_ko: "프로덕션 대규모 서빙: SGLang >= vLLM >> Ollama",
        of: &THREE,
        find: |l| l.at_scale(),
    },
    Item {
        section: "9.2",
        scenario: None,
        expected: "One local user: Ollama's ease of use outweighs the difference in performance",
        expected_ko: "단일 사용자 로컬 추론: Ollama의 간편성이 성능 차이를 상쇄",
        of: &THREE,
        find: |l| l.one_user(),
    },
    Item {
        section: "9.2",
        scenario: None,
        expected: "Workloads that share a prefix: SGLang > vLLM > Ollama",
        expected_ko: "접두사 공유 워크로드: SGLang > vLLM > Ollama",
        of: &THREE,
        find: |l| l.shared_prefix(),
    },
];

/// The last line of 9.2 is about operations, not about answers.
pub(super) const EASE: Item = Item {
    section: "9.2",
    scenario: None,
    expected: "Ease of installation and operation: Ollama > vLLM > SGLang",
    expected_ko: "설치/운영 편의성: Ollama > vLLM > SGLang",
    of: &THREE,
    find: |l| l.ease(),
};
