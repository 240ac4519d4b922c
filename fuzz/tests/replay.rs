//! Each target on its seeds, and on changes of them that depend on a number only. `NAIVE_PTQ_FUZZ=100`
//! makes a hundred times as many.

use naive_ptq_fuzz::rng::Rng;
use naive_ptq_fuzz::{mutate, seeds};

/// Runs `target` on its seeds, most of which are good, and on `count` changes of each, of which some are.
fn replay(name: &str, target: fn(&[u8]) -> bool, count: u64) {
    let factor =
        std::env::var("NAIVE_PTQ_FUZZ").map_or(1, |factor| factor.parse().expect("a number"));
    let (mut good, mut all, mut faults) = (0, 0, Vec::new());
    let seeds = seeds::of(name);
    let refused: Vec<usize> = (0..seeds.len()).filter(|&index| !target(&seeds[index])).collect();
    assert!(refused.len() * 4 <= seeds.len(), "{name} refuses seeds {refused:?}");
    for (index, seed) in seeds.iter().enumerate() {
        for number in 0..count * factor {
            let changed = match name {
                "onnx" => mutate::model(seed, number),
                _ => mutate::bytes(seed, &mut Rng(number)),
            };
            let run = std::panic::AssertUnwindSafe(|| target(&changed));
            match std::panic::catch_unwind(run) {
                Ok(is_good) => good += u64::from(is_good),
                Err(_) => {
                    let file = std::env::temp_dir().join(format!("{name}-{index}-{number}"));
                    std::fs::write(&file, &changed).expect("a file");
                    faults.push(format!("seed {index}, change {number}: {}", file.display()));
                }
            }
            all += 1;
        }
    }
    eprintln!(
        "{name}: seeds {refused:?} of {} are refused, {good} of {all} changes are good",
        seeds.len()
    );
    assert!(faults.is_empty(), "{name}: {faults:#?}");
    assert!(good * 100 > all, "{name}: {good} of {all}");
}

#[test]
fn onnx() {
    replay("onnx", naive_ptq_fuzz::onnx, 40);
}

#[test]
fn npy() {
    replay("npy", naive_ptq_fuzz::npy, 3000);
}

#[test]
fn npz() {
    replay("npz", naive_ptq_fuzz::npz, 1000);
}

#[test]
fn images() {
    replay("images", naive_ptq_fuzz::images, 50);
}

#[test]
fn stats() {
    replay("stats", naive_ptq_fuzz::stats, 300);
}

#[test]
fn dumps() {
    replay("dumps", naive_ptq_fuzz::dumps, 500);
}

#[test]
fn engine() {
    replay("engine", naive_ptq_fuzz::engine, 20);
}
