//! The texts of cells.

use std::collections::HashSet;

use super::*;

fn calibration(cells: &[Cell]) -> Calibration {
    let mut fake = FakeServer::new(Digits::ByThree);
    block_on(calibrate("m", server(), &Needs::of(cells), &mut fake, &options())).unwrap()
}

fn all(prompts: &CellPrompts) -> Vec<&PromptText> {
    prompts.passes.iter().flatten().chain(&prompts.warmup).collect()
}

fn user(prompt: &PromptText) -> &str {
    &prompt.messages.last().unwrap().content
}

#[test]
fn a_cell_has_its_passes_requests_and_warmup() {
    let cell = exact_cell("single/in512", 512);
    let prompts = for_cell(&cell, 42, &calibration(std::slice::from_ref(&cell))).unwrap();
    assert_eq!(prompts.passes.len(), 3);
    assert!(prompts.passes.iter().all(|pass| pass.len() == 10));
    assert_eq!(prompts.warmup.len(), 4);
    assert_eq!(prompts.passes[1][7].id, "m/single/in512/p2/r7");
    assert_eq!(prompts.warmup[0].id, "m/single/in512/warmup/0");
    let fake = FakeServer::new(Digits::ByThree);
    for prompt in all(&prompts) {
        assert_eq!((prompt.asked_tokens, prompt.tokens), (Some(512), Some(512)));
        assert_eq!(fake.content(user(prompt)), 512);
        assert!(user(prompt).ends_with("do not stop early."));
    }
}

#[test]
fn distinct_prompts_differ_within_their_first_three_characters() {
    let mut cell = exact_cell("concurrent/c64", 512);
    (cell.passes, cell.requests_per_pass, cell.warmup) = (5, 100, 64);
    let prompts = for_cell(&cell, 42, &calibration(std::slice::from_ref(&cell))).unwrap();
    let starts: HashSet<String> = all(&prompts)
        .iter()
        .map(|p| user(p).chars().take(3).collect())
        .collect();
    assert_eq!(starts.len(), 564);
    let ids: HashSet<&str> = all(&prompts).iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids.len(), 564);
    let hashes: HashSet<&str> = all(&prompts).iter().map(|p| p.sha256.as_str()).collect();
    assert_eq!(hashes.len(), 564);
}

#[test]
fn no_prompt_of_a_night_comes_twice() {
    let mut cells = vec![
        exact_cell("single/in128", 128),
        exact_cell("single/in512", 512),
        exact_cell("concurrent/c1", 512),
        exact_cell("concurrent/c8", 512),
        exact_cell("long_context/c8/in2048", 2_048),
        shared_cell("prefix_cache/sys512", 512, 64),
    ];
    for t in PromptType::ALL {
        for language in [Language::Ko, Language::En] {
            for c in ["c1", "c8"] {
                cells.push(written_cell(
                    &format!("korean/{c}/{}/{}", t.as_str(), language.as_str()),
                    t,
                    language,
                ));
            }
        }
    }
    let calibration = calibration(&cells);
    let mut hashes = HashSet::new();
    let mut number = 0;
    for cell in &cells {
        let prompts = for_cell(cell, 42, &calibration).unwrap();
        number += all(&prompts).len();
        hashes.extend(all(&prompts).into_iter().map(|p| p.sha256.clone()));
    }
    let lane = lane_warmup(&cells[0], 3, 42, &calibration).unwrap();
    assert_eq!(
        lane.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(),
        ["m/lane/warmup/0", "m/lane/warmup/1", "m/lane/warmup/2"]
    );
    hashes.extend(lane.into_iter().map(|p| p.sha256));
    assert_eq!(hashes.len(), number + 3);
}

#[test]
fn identical_prompts_are_one_text_for_the_whole_scenario_and_warm_up_is_another() {
    let mut cells = [
        exact_cell("concurrent/c1", 512),
        exact_cell("concurrent/c64", 512),
    ];
    for cell in &mut cells {
        cell.prompts = PromptMode::Identical;
    }
    let calibration = calibration(&cells);
    let made: Vec<CellPrompts> = cells
        .iter()
        .map(|c| for_cell(c, 42, &calibration).unwrap())
        .collect();
    let one = &made[0].passes[0][0];
    assert_eq!(one.id, "m/concurrent/in512/same");
    assert!(
        made.iter()
            .flat_map(|p| p.passes.iter().flatten())
            .all(|p| p == one)
    );
    let warmups: HashSet<&str> = made.iter().flat_map(|p| &p.warmup).map(user).collect();
    assert_eq!(warmups.len(), 8);
    assert!(!warmups.contains(user(one)));
    assert!(made.iter().flat_map(|p| &p.warmup).all(|p| p.tokens == Some(512)));
}

#[test]
fn a_shared_prefix_is_fresh_in_each_pass_and_its_questions_differ() {
    let cell = shared_cell("prefix_cache/sys512", 512, 64);
    let calibration = calibration(std::slice::from_ref(&cell));
    let prompts = for_cell(&cell, 42, &calibration).unwrap();
    let fake = FakeServer::new(Digits::ByThree);
    let system = |p: &PromptText| p.messages[0].content.clone();
    let mut systems = HashSet::new();
    for pass in prompts.passes.iter().chain([&prompts.warmup]) {
        let of_pass: HashSet<String> = pass.iter().map(system).collect();
        assert_eq!(of_pass.len(), 1);
        systems.extend(of_pass);
        let questions: HashSet<&str> = pass.iter().map(user).collect();
        assert_eq!(questions.len(), pass.len());
        // Eight different questions at least, not one with eight numbers.
        let bodies: HashSet<&str> = pass
            .iter()
            .map(|p| user(p).split_once("\n\n").unwrap().1)
            .collect();
        assert_eq!(bodies.len(), pass.len().min(8));
    }
    assert_eq!(systems.len(), 4);
    for prompt in all(&prompts) {
        assert_eq!(prompt.messages[0].role, Role::System);
        assert_eq!(fake.content(&prompt.messages[0].content), 512);
        assert_eq!(fake.content(user(prompt)), 64);
        assert_eq!(prompt.tokens, Some(576));
    }
    let starts: HashSet<String> = systems.iter().map(|s| s.chars().take(3).collect()).collect();
    assert_eq!(starts.len(), 4);
}

#[test]
fn korean_and_english_twins_get_the_same_salts_and_nothing_else_changes() {
    let ko = written_cell("korean/c8/essay/ko", PromptType::Essay, Language::Ko);
    let en = written_cell("korean/c8/essay/en", PromptType::Essay, Language::En);
    let calibration = calibration(&[ko.clone(), en.clone()]);
    let (ko, en) = (
        for_cell(&ko, 42, &calibration).unwrap(),
        for_cell(&en, 42, &calibration).unwrap(),
    );
    for (a, b) in all(&ko).into_iter().zip(all(&en)) {
        assert_eq!(a.salt, b.salt);
        assert_eq!(
            user(a),
            format!("{}\n\n{}", a.salt, written(PromptType::Essay, Language::Ko).text)
        );
        assert_eq!(
            user(b),
            format!("{}\n\n{}", b.salt, written(PromptType::Essay, Language::En).text)
        );
        assert_eq!(a.tokens, None);
    }
    let salts: HashSet<Salt> = all(&ko).iter().map(|p| p.salt).collect();
    assert_eq!(salts.len(), 34);
}

#[test]
fn the_same_seed_gives_the_same_prompts_and_another_gives_others() {
    let cell = exact_cell("single/in128", 128);
    let calibration = calibration(std::slice::from_ref(&cell));
    let first = for_cell(&cell, 42, &calibration).unwrap();
    assert_eq!(first, for_cell(&cell, 42, &calibration).unwrap());
    let other = for_cell(&cell, 43, &calibration).unwrap();
    assert_ne!(first.passes[0][0].sha256, other.passes[0][0].sha256);
    // Fewer passes or requests are the start of more: what is left out changes nothing else.
    let mut shorter = cell.clone();
    shorter.passes = 1;
    let shorter = for_cell(&shorter, 42, &calibration).unwrap();
    assert_eq!(shorter.passes[0], first.passes[0]);
}

#[test]
fn a_length_that_was_not_measured_is_an_error() {
    let cell = exact_cell("single/in128", 128);
    let calibration = calibration(std::slice::from_ref(&cell));
    for missing in [
        exact_cell("single/in512", 512),
        shared_cell("prefix_cache/x", 64, 64),
    ] {
        let error = for_cell(&missing, 42, &calibration).unwrap_err();
        assert!(
            matches!(&error, PromptError::NotCalibrated { model, .. } if model == "m"),
            "{error}"
        );
        assert!(!calibration.covers(&Needs::of([&missing])));
    }
}

#[test]
fn a_frozen_prompt_reads_back_and_a_changed_one_is_refused() {
    let cell = shared_cell("prefix_cache/sys512", 512, 64);
    let calibration = calibration(std::slice::from_ref(&cell));
    let prompt = &for_cell(&cell, 42, &calibration).unwrap().passes[0][0];
    let line = serde_json::to_string(&prompt.frozen("llama")).unwrap();
    assert!(
        line.starts_with(r#"{"v":1,"id":"m/prefix_cache/sys512/p1/r0","model":"llama","sha256":""#),
        "{line}"
    );
    let mut back: FrozenPrompt = serde_json::from_str(&line).unwrap();
    assert_eq!(back, prompt.frozen("llama"));
    assert!(back.check().is_ok());
    back.messages[1].content.push('!');
    assert!(matches!(back.check(), Err(PromptError::Changed { .. })));
    back.v = 2;
    assert!(matches!(back.check(), Err(PromptError::Version { found: 2, .. })));
    // A character that moves from one message to the next is a change too.
    let mut moved = prompt.frozen("llama");
    let last = moved.messages[0].content.pop().unwrap();
    moved.messages[1].content.insert(0, last);
    assert!(moved.check().is_err());
}
