//! Commands that apply remedies.

use std::path::Path;

use serde_json::json;

use super::facts::Run;
use crate::analyze::Apply;
use crate::data::Preprocess;
use crate::emit::word;

/// `words` as a line for a shell.
pub fn line(words: &[String]) -> String {
    words.iter().map(|it| word(Path::new(it))).collect::<Vec<_>>().join(" ")
}

/// The command that quantizes as `run` did, or would, with `apply`.
pub fn command(apply: &Apply, run: &Run) -> String {
    let placeholders = || {
        let words =
            ["naive-ptq", "quantize", &run.reference, "--calib", "CALIBRATION", "-o", "OUT.onnx"];
        let words = words.into_iter().map(String::from);
        words.chain(run.preprocess.iter().flat_map(options)).collect()
    };
    let mut words = match run.recipe {
        Some(_) => run.command.clone(),
        None => placeholders(),
    };
    match apply {
        Apply::Options(options) => {
            let options: Vec<String> = options.split_whitespace().map(String::from).collect();
            options
                .iter()
                .filter(|it| it.starts_with("--"))
                .for_each(|it| _ = take(&mut words, it));
            line(&[words, options].concat())
        }
        Apply::Rule(rule) => {
            let whole = run.recipe.as_ref().filter(|_| take(&mut words, "--recipe"));
            let recipe = match whole.map(serde_json::to_value) {
                Some(Ok(mut recipe)) => {
                    if let (Some(rules), Ok(rule)) =
                        (recipe["rules"].as_array_mut(), serde_json::from_str(rule))
                    {
                        rules.push(rule);
                    }
                    recipe.to_string()
                }
                _ => format!("[{rule}]"),
            };
            words.extend(["--recipe", "recipe.json"].map(String::from));
            format!("echo {} > recipe.json\n{}", word(Path::new(&recipe)), line(&words))
        }
    }
}

/// What says how samples were made.
fn options(preprocess: &Preprocess) -> Vec<String> {
    let usual = Preprocess::default();
    let list = |numbers: &[f32]| {
        let numbers: Vec<String> = numbers.iter().map(f32::to_string).collect();
        (!numbers.is_empty()).then(|| numbers.join(","))
    };
    let text = |json: serde_json::Value| json.as_str().map(String::from);
    let named = [
        ("--scale", (preprocess.scale != usual.scale).then(|| preprocess.scale.to_string())),
        ("--mean", list(&preprocess.mean)),
        ("--std", list(&preprocess.std)),
        ("--crop-fraction", preprocess.crop_fraction.map(|share| share.to_string())),
        ("--resize", preprocess.resize.map(|pixels| pixels.to_string())),
        ("--crop", preprocess.crop.map(|pixels| pixels.to_string())),
        (
            "--filter",
            (preprocess.filter != usual.filter).then(|| json!(preprocess.filter)).and_then(text),
        ),
        (
            "--layout",
            (preprocess.layout != usual.layout).then(|| json!(preprocess.layout)).and_then(text),
        ),
    ];
    let given = named.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
    given.flatten().collect()
}

/// Removes `option` with its value; whether it was there.
fn take(words: &mut Vec<String>, option: &str) -> bool {
    let is_it = |word: &String| {
        word.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let Some(at) = words.iter().position(is_it) else { return false };
    let count = if words[at] == option { 2 } else { 1 };
    words.drain(at..words.len().min(at + count));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Recipe;

    fn run(command: &str) -> Run {
        let command = command.split(' ').map(String::from).collect();
        Run { command, recipe: Some(Recipe { version: 1, ..Recipe::default() }), ..Run::default() }
    }

    #[test]
    fn an_option_takes_the_place_of_what_was_said_before() {
        let channel = Apply::Options("--granularity channel".into());
        for said in ["", " --granularity tensor", " --granularity=tensor"] {
            let run = run(&format!("naive-ptq quantize a.onnx{said} --calib c.npz"));
            assert_eq!(
                command(&channel, &run),
                "naive-ptq quantize a.onnx --calib c.npz --granularity channel"
            );
        }
        let other = Run { reference: "my float.onnx".into(), ..Run::default() };
        let expected = "naive-ptq quantize 'my float.onnx' --calib CALIBRATION -o OUT.onnx --granularity channel";
        assert_eq!(command(&channel, &other), expected);
        let preprocess = Preprocess {
            scale: 0.5,
            mean: vec![0.25, -1.0],
            crop: Some(8),
            ..Preprocess::default()
        };
        let known = Run { preprocess: Some(preprocess), ..other };
        let added = " --scale 0.5 --mean 0.25,-1 --crop 8 --granularity channel";
        assert!(command(&channel, &known).ends_with(&format!("-o OUT.onnx{added}")));
    }

    #[test]
    fn a_rule_joins_those_that_there_are() {
        let rule = Apply::Rule(r#"{"values": "^it's\\.x$", "activations": 16}"#.into());
        let first = command(&rule, &run("naive-ptq quantize a.onnx"));
        let expected = r#"echo '[{"values": "^it'\''s\\.x$", "activations": 16}]' > recipe.json"#;
        assert_eq!(first.lines().next(), Some(expected));
        assert!(first.ends_with("\nnaive-ptq quantize a.onnx --recipe recipe.json"), "{first}");
        let second = command(&rule, &run("naive-ptq quantize a.onnx --recipe old.json"));
        assert!(second.contains("\"version\":1") && !second.contains("old.json"), "{second}");
    }
}
