//! Exact lengths.

use std::{io::Write as _, num::NonZeroU32, path::Path};

use proptest::prelude::*;
use tokenizers::{
    AddedToken, Tokenizer, Trainer,
    decoders::byte_level::ByteLevel as ByteLevelDecoder,
    models::{
        bpe::{BPE, BpeTrainer},
        unigram::{Unigram, UnigramTrainer},
        wordlevel::WordLevel,
    },
    pre_tokenizers::{
        byte_level::ByteLevel, digits::Digits as SplitDigits, metaspace::Metaspace, sequence::Sequence,
    },
};

use super::*;
use crate::calibration::CALIBRATION_VERSION;

const CORPUS: &str = include_str!("../texts/corpus.txt");
const LENGTHS: [u32; 6] = [64, 128, 512, 1_024, 2_048, 4_096];

/// A byte-level BPE as today's models have it, trained on the corpus; digits one by one or merged freely.
fn train_bpe(path: &Path, single_digits: bool) {
    let mut bpe = BPE::default();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(1_800)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let digits: Vec<String> = (0..400).map(|i| format!("{:03}", i * 7 % 1_000)).collect();
    let level = ByteLevel::new(false, true, true);
    trainer
        .feed(
            CORPUS.split_whitespace().chain(digits.iter().map(String::as_str)),
            |text| {
                let spaced = format!(" {text}");
                let bytes: String = spaced.bytes().map(byte_char).collect();
                Ok(vec![bytes])
            },
        )
        .unwrap();
    trainer.train(&mut bpe).unwrap();
    let mut tokenizer = Tokenizer::new(bpe);
    if single_digits {
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
            SplitDigits::new(true).into(),
            level.into(),
        ])));
    } else {
        tokenizer.with_pre_tokenizer(Some(level));
    }
    tokenizer.with_decoder(Some(ByteLevelDecoder::default()));
    // A setting left behind by training must not cut the texts.
    tokenizer
        .with_truncation(Some(tokenizers::TruncationParams {
            max_length: 16,
            ..Default::default()
        }))
        .unwrap();
    tokenizer.save(path, false).unwrap();
}

/// The letter that stands for a byte in byte-level vocabularies (printable ones for themselves).
fn byte_char(byte: u8) -> char {
    match byte {
        b'!'..=b'~' => char::from(byte),
        b' ' => 'Ġ',
        other => unreachable!("the corpus is plain text, not byte {other}"),
    }
}

fn count_body(file: &TokenizerFile, calibration: &Calibration, fitted: &Fitted) -> u32 {
    let salt: Salt = serde_json::from_str("123456789012").unwrap();
    file.tokens(&calibration.salt_form.apply(salt, &fitted.body))
        .unwrap()
}

fn check_file(path: &Path) -> (Calibration, TokenizerFile) {
    let mut file = TokenizerFile::open(path).unwrap();
    let source = CountSource::File {
        path: path.to_owned(),
        sha256: file.sha256().to_owned(),
    };
    let needs = needs(&LENGTHS, &[((2_048, 128), 50)]);
    let calibration = block_on(calibrate("m", source, &needs, &mut file, &options())).unwrap();
    assert!(calibration.covers(&needs));
    assert_eq!(calibration.template, TemplateShare::NONE);
    for fitted in calibration.texts() {
        // A salt that no probe had: the count is that of the text, not of its salt.
        assert_eq!(count_body(&file, &calibration, fitted), fitted.reached);
    }
    for joint in &calibration.joints {
        assert_eq!(joint.together, joint.separate);
    }
    (calibration, file)
}

#[test]
fn a_byte_level_bpe_reaches_every_length_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    train_bpe(&path, true);
    let (calibration, _) = check_file(&path);
    assert_eq!(
        calibration.deviations().count(),
        0,
        "{:?}",
        calibration.deviations().next()
    );
    assert_eq!(calibration.salt_form, SaltForm::Digits);
    assert_eq!(calibration.questions[&128].len(), 16);
}

#[test]
fn a_vocabulary_that_merges_digits_gets_them_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    train_bpe(&path, false);
    let (calibration, file) = check_file(&path);
    assert_eq!(calibration.salt_form, SaltForm::SpacedDigits);
    assert_eq!(calibration.deviations().count(), 0);
    // It was needed: plain digits differ.
    let lengths: std::collections::HashSet<u32> = (0..50u64)
        .map(|i| {
            file.tokens(&(100_000_000_000 + i * 7_654_321).to_string())
                .unwrap()
        })
        .collect();
    assert!(lengths.len() > 1);
}

#[test]
fn a_unigram_with_word_marks_is_exact_or_says_how_far_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(1_500)
        .unk_token(Some("<unk>".to_owned()))
        .build()
        .unwrap();
    trainer
        .feed(CORPUS.split_whitespace().chain(["0 1 2 3 4 5 6 7 8 9"]), |text| {
            Ok(text.split(' ').map(|w| format!("▁{w}")).collect())
        })
        .unwrap();
    let mut model = Unigram::default();
    trainer.train(&mut model).unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        Metaspace::default().into(),
        SplitDigits::new(true).into(),
    ])));
    tokenizer.save(&path, false).unwrap();
    let (calibration, _) = check_file(&path);
    for fitted in calibration.texts() {
        assert!(
            fitted.asked - fitted.reached <= 2,
            "{} of {}",
            fitted.reached,
            fitted.asked
        );
    }
}

#[test]
fn a_word_level_vocabulary_is_exact() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let model = WordLevel::builder()
        .vocab([("[UNK]".to_owned(), 0)].into_iter().collect())
        .unk_token("[UNK]".to_owned())
        .build()
        .unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(tokenizers::pre_tokenizers::whitespace::Whitespace));
    tokenizer
        .add_special_tokens([AddedToken::from("<s>", true)])
        .unwrap();
    tokenizer.save(&path, false).unwrap();
    let (calibration, _) = check_file(&path);
    assert_eq!(calibration.deviations().count(), 0);
}

#[test]
fn a_file_that_is_no_tokenizer_is_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"{}").unwrap();
    let error = TokenizerFile::open(file.path()).unwrap_err().to_string();
    assert!(
        error.contains(&file.path().display().to_string()) && error.contains("hint:"),
        "{error}"
    );
    let error = TokenizerFile::open(Path::new("/nowhere/tokenizer.json"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nowhere/tokenizer.json"), "{error}");
}

#[test]
fn servers_with_any_template_give_exact_texts_in_few_probes() {
    for digits in [Digits::OneByOne, Digits::ByThree] {
        for template in [0, 5, 68] {
            let mut fake = FakeServer::new(digits);
            fake.template = template;
            fake.template_with_system = template + 9;
            let needs = needs(&[128, 512, 1_024, 2_048, 4_096], &[((2_048, 128), 50)]);
            let calibration = block_on(calibrate("m", server(), &needs, &mut fake, &options())).unwrap();
            assert_eq!(calibration.template.user, template);
            assert_eq!(calibration.template.system_and_user, Some(template + 9));
            assert!(calibration.template.confirmed);
            assert_eq!(calibration.deviations().count(), 0);
            assert_eq!(calibration.questions[&128].len(), 8);
            assert_eq!(calibration.joints[0].together, 2_048 + 128);
            for fitted in calibration.texts() {
                let salt: Salt = serde_json::from_str("234567890123").unwrap();
                let text = calibration.salt_form.apply(salt, &fitted.body);
                assert_eq!(fake.content(&text), fitted.asked);
                assert!(
                    fitted.probes <= 8,
                    "{} probes for {}",
                    fitted.probes,
                    fitted.asked
                );
            }
            assert_eq!(calibration.probes, fake.counts);
        }
    }
}

#[test]
fn a_server_that_merges_digits_gets_them_apart() {
    let mut fake = FakeServer::new(Digits::Merged);
    let calibration = block_on(calibrate(
        "m",
        server(),
        &needs(&[128], &[]),
        &mut fake,
        &options(),
    ))
    .unwrap();
    assert_eq!(calibration.salt_form, SaltForm::SpacedDigits);
    assert_eq!(calibration.exact[&128].reached, 128);
}

#[test]
fn nothing_measured_is_sent_while_measuring() {
    let mut fake = FakeServer::new(Digits::ByThree);
    let cells = [
        exact_cell("single/in128", 128),
        shared_cell("prefix_cache/sys512", 512, 64),
    ];
    let needs = Needs::of(&cells);
    let calibration = block_on(calibrate("m", server(), &needs, &mut fake, &options())).unwrap();
    // Every long text sent so far begins with three digits that no measured text begins with.
    let starts: Vec<&str> = fake
        .texts
        .iter()
        .flatten()
        .map(|m| m.content.as_str())
        .filter(|t| t.len() > 60)
        .collect();
    assert!(starts.len() > 10);
    assert!(starts.iter().all(|text| text.starts_with('9')), "{starts:?}");
    for cell in &cells {
        let prompts = for_cell(cell, 42, &calibration).unwrap();
        for prompt in prompts.passes.iter().flatten().chain(&prompts.warmup) {
            assert!(prompt.messages.iter().all(|m| !m.content.starts_with('9')));
        }
    }
}

#[test]
fn the_template_is_found_although_the_letter_merges_with_it() {
    let mut fake = FakeServer::new(Digits::ByThree);
    fake.merges_at_start = true;
    let share = block_on(template_share(&mut fake, true, &options())).unwrap();
    assert_eq!(
        (share.user, share.system_and_user, share.confirmed),
        (37, Some(52), true)
    );
}

#[test]
fn a_letter_that_is_no_single_token_is_outvoted() {
    let mut fake = FakeServer::new(Digits::ByThree);
    fake.lone_letter = 3;
    let share = block_on(template_share(&mut fake, true, &options())).unwrap();
    assert_eq!(
        (share.user, share.system_and_user, share.confirmed),
        (37, Some(52), true)
    );
    let needs = needs(&[128], &[((512, 64), 2)]);
    let calibration = block_on(calibrate("m", server(), &needs, &mut fake, &options())).unwrap();
    let salt: Salt = serde_json::from_str("456789012345").unwrap();
    for fitted in calibration.texts() {
        assert_eq!(
            fake.content(&calibration.salt_form.apply(salt, &fitted.body)),
            fitted.asked
        );
    }
}

#[test]
fn a_template_that_trims_is_measured_all_the_same() {
    let mut fake = FakeServer::new(Digits::OneByOne);
    fake.trims = true;
    let share = block_on(template_share(&mut fake, true, &options())).unwrap();
    assert_eq!(
        (share.user, share.system_and_user, share.confirmed),
        (37, Some(52), true)
    );
}

#[test]
fn failing_probes_are_asked_again_and_then_given_up() {
    let needs = needs(&[512], &[]);
    let mut fake = FakeServer::new(Digits::ByThree);
    fake.fails_every = 3;
    let calibration = block_on(calibrate("m", server(), &needs, &mut fake, &options())).unwrap();
    assert_eq!(calibration.deviations().count(), 0);
    assert_eq!(calibration.probes, fake.counts);

    let mut fake = FakeServer::new(Digits::ByThree);
    fake.fails_every = 1;
    let error = block_on(calibrate("m", server(), &needs, &mut fake, &options())).unwrap_err();
    assert_eq!(
        error,
        PromptError::ProbeFailed {
            attempts: 3,
            last: "connection reset".to_owned(),
            refused: false,
        }
    );
    assert_eq!(fake.counts, 3);
}

#[test]
fn a_failure_for_good_is_not_asked_again() {
    struct Refuses(u32);
    impl TokenCounter for Refuses {
        async fn count(&mut self, _: &[Message]) -> Result<u32, PromptError> {
            self.0 += 1;
            Err(PromptError::probe_for_good("400: model not found"))
        }
    }
    let mut counter = Refuses(0);
    let error = block_on(template_share(&mut counter, false, &options()))
        .unwrap_err()
        .to_string();
    assert_eq!(counter.0, 1);
    assert!(error.contains("model not found"), "{error}");
}

#[test]
fn silent_truncation_is_an_error_that_names_the_remedy() {
    let mut fake = FakeServer::new(Digits::ByThree);
    fake.context = 2_048;
    let error = block_on(calibrate(
        "m",
        server(),
        &needs(&[4_096], &[]),
        &mut fake,
        &options(),
    ))
    .unwrap_err();
    assert_eq!(
        error,
        PromptError::Saturated {
            asked: 4_096,
            seen: 2_048 - 37
        }
    );
    assert!(error.to_string().contains("OLLAMA_CONTEXT_LENGTH"));
}

#[test]
fn a_length_that_cannot_be_had_costs_no_other_and_the_next_server_adds_it() {
    let all = needs(&[128, 4_096], &[]);
    let mut small = FakeServer::new(Digits::ByThree);
    small.context = 2_048;
    let mut calibration = block_on(calibrate("m", server(), &all, &mut small, &options())).unwrap();
    assert_eq!(calibration.exact[&128].reached, 128);
    assert!(!calibration.covers(&all));
    assert_eq!(calibration.left_out.len(), 1);
    let (what, why) = &calibration.left_out[0];
    assert!(
        what.contains("4096") && why.contains("cuts prompts silently"),
        "{what}: {why}"
    );

    let first = calibration.exact[&128].clone();
    let missing = calibration.missing(&all);
    assert_eq!(missing, needs(&[4_096], &[]));
    let mut large = FakeServer::new(Digits::ByThree);
    let more = block_on(calibrate("m", server(), &missing, &mut large, &options())).unwrap();
    assert!(calibration.add(more));
    assert!(calibration.covers(&all));
    assert_eq!(
        calibration.exact[&128], first,
        "the text that was sent already stays"
    );
}

#[test]
fn a_length_below_the_shortest_text_says_what_is_possible() {
    let mut fake = FakeServer::new(Digits::OneByOne);
    let error = block_on(calibrate("m", server(), &needs(&[5], &[]), &mut fake, &options())).unwrap_err();
    let PromptError::TooShort { asked: 5, least } = error else {
        panic!("{error}")
    };
    let calibration = block_on(calibrate(
        "m",
        server(),
        &needs(&[least], &[]),
        &mut fake,
        &options(),
    ))
    .unwrap();
    assert_eq!(calibration.exact[&least].reached, least);
}

#[test]
fn a_corpus_used_again_is_reported() {
    let mut fake = FakeServer::new(Digits::ByThree);
    let calibration = block_on(calibrate(
        "m",
        server(),
        &needs(&[4_096, 20_000], &[]),
        &mut fake,
        &options(),
    ))
    .unwrap();
    assert_eq!(calibration.exact[&4_096].repeats, 0);
    assert!(calibration.exact[&20_000].repeats >= 2);
    assert_eq!(calibration.exact[&20_000].reached, 20_000);
}

#[test]
fn a_stored_calibration_reads_back_the_same() {
    let mut fake = FakeServer::new(Digits::ByThree);
    let needs = needs(&[128, 512], &[((512, 64), 4)]);
    let calibration = block_on(calibrate("m", server(), &needs, &mut fake, &options())).unwrap();
    let text = serde_json::to_string(&calibration).unwrap();
    let back: Calibration = serde_json::from_str(&text).unwrap();
    assert_eq!(back, calibration);
    assert!(back.check_version().is_ok());
    let newer = Calibration {
        v: CALIBRATION_VERSION + 1,
        ..back
    };
    assert!(newer.check_version().unwrap_err().to_string().contains("hint:"));
    // And measuring again finds the same texts.
    let again = block_on(calibrate("m", server(), &needs, &mut fake, &options())).unwrap();
    assert_eq!(again, calibration);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the template, its trimming, its merging and now and then a failed request: a length is exact, or
    /// below by what is said, and the number of probes is bounded.
    #[test]
    fn exact_or_its_deviation_is_told(
        asked in 90u32..5_000,
        // A chat prompt has a template, and only one that is there can merge with its text.
        template in 1u32..400,
        by_three in any::<bool>(),
        merges_at_start in any::<bool>(),
        trims in any::<bool>(),
        fails_every in prop::sample::select(vec![0u32, 2, 3, 7]),
        budget in 1u32..14,
    ) {
        let mut fake = FakeServer::new(if by_three { Digits::ByThree } else { Digits::OneByOne });
        fake.template = template;
        fake.merges_at_start = merges_at_start;
        fake.trims = trims;
        fake.fails_every = fails_every;
        let options = CalibrateOptions { probes_per_text: NonZeroU32::new(budget).unwrap(), ..options() };
        match block_on(calibrate("m", server(), &needs(&[asked], &[]), &mut fake, &options)) {
            Ok(calibration) => {
                let fitted = &calibration.exact[&asked];
                let salt: Salt = serde_json::from_str("345678901234").unwrap();
                let content = fake.content(&calibration.salt_form.apply(salt, &fitted.body));
                // The template is right within its own disagreement.
                let off = calibration.template.user.abs_diff(template);
                prop_assert!(content.abs_diff(fitted.reached) <= off);
                prop_assert!(fitted.reached <= asked);
                if budget >= 8 {
                    prop_assert_eq!(fitted.reached, asked);
                }
                let texts = 3 * budget.max(4) + 12;
                prop_assert!(calibration.probes <= 2 * texts, "{} probes", calibration.probes);
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
