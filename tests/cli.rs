//! The command line, as its user meets it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

#[path = "cli/inputs.rs"]
mod inputs;
mod tools;
#[path = "cli/tune.rs"]
mod tune;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use naive_ptq::Tensor;
use naive_ptq::data::npy::{read_npy, write_npy};
use naive_ptq::graph::{self, Graph, Node, Parts};
use naive_ptq::onnx;
use naive_ptq::ops::Op;
use naive_ptq::ops::clip::Clip;
use naive_ptq::ops::unary::Unary;
use serde_json::Value;
use tools::{fashion, pseudo_random, save, scratch, text};

const SCALE: &str = "--scale 0.00392156862745098";

/// Runs the binary in `dir`; `arguments` are separated by spaces, and `FLOAT`, `CALIB`, `TEST` are the
/// files of the bundled network.
fn run(dir: &Path, arguments: &str) -> Output {
    let arguments = arguments.split_whitespace().map(|argument| match argument {
        "FLOAT" => fashion("float.onnx").into_os_string(),
        "CALIB" => fashion("calib.npz").into_os_string(),
        "TEST" => fashion("test.npz").into_os_string(),
        other => other.into(),
    });
    let binary = env!("CARGO_BIN_EXE_naive-ptq");
    Command::new(binary).args(arguments).current_dir(dir).output().unwrap()
}

/// What it prints, if all goes well.
#[track_caller]
fn prints(dir: &Path, arguments: &str) -> String {
    let output = run(dir, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {stderr}");
    assert!(stderr.lines().all(|line| line.starts_with("hint: ")), "{arguments}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json(dir: &Path, arguments: &str) -> Value {
    serde_json::from_str(&prints(dir, arguments)).unwrap()
}

/// Exits with 2 and a message that has all `texts`, which is returned.
#[track_caller]
fn fails(dir: &Path, arguments: &str, texts: &[&str]) -> String {
    let output = run(dir, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
    assert!(!stderr.contains("panicked"), "{arguments}: {stderr}");
    for text in texts {
        assert!(stderr.contains(text), "{arguments}: {text:?} is not in {stderr:?}");
    }
    stderr
}

/// As [`fails`], with a message of one line.
#[track_caller]
fn fails_in_a_line(dir: &Path, arguments: &str, texts: &[&str]) {
    let stderr = fails(dir, arguments, texts);
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{arguments}: {stderr}");
}

/// Images of any numbers in 0…255.
fn pixels(count: usize) -> Tensor<f32> {
    pseudo_random(&[count, 1, 28, 28], 1).map(|x| 127.5 * (x + 1.0))
}

/// A folder with `int8.onnx`.
fn quantized(options: &str) -> tempfile::TempDir {
    let dir = scratch();
    prints(dir.path(), &format!("quantize FLOAT --calib CALIB -o int8.onnx {SCALE} {options}"));
    dir
}

#[test]
fn inspect_shows_both_kinds_of_network() {
    let dir = quantized("");
    let float = prints(dir.path(), "inspect FLOAT");
    for text in ["input  \"image\" 1x1x28x28", "output \"logits\" 1x10", "MACs", "Conv"] {
        assert!(float.contains(text), "{text:?} is not in {float}");
    }
    let int = prints(dir.path(), "inspect int8.onnx");
    for text in ["scale", "zero", "|acc| bound", "largest accumulator: ±"] {
        assert!(int.contains(text), "{text:?} is not in {int}");
    }
    let (float, int) =
        (json(dir.path(), "inspect FLOAT --json"), json(dir.path(), "inspect int8.onnx --json"));
    assert_eq!((&float["quantized"], &int["quantized"]), (&false.into(), &true.into()));
    assert_eq!(float["inputs"][0]["shape"], serde_json::json!([1, 1, 28, 28]));
    for target in ["c", "rust"] {
        assert!(int["ram_bytes"][target].as_u64().unwrap() >= 784, "{target}");
    }
    assert!(int["constant_bytes"].as_u64() > int["parameters"].as_u64());
    assert!(
        float["ram_bytes"]["c"].is_null()
            && float["coverage"][1]["refused"] == serde_json::json!([])
    );
    assert_eq!(float["macs"], int["macs"]);
    for node in int["nodes"].as_array().unwrap() {
        let quant = &node["output"]["quant"];
        assert!(quant["scale"][0].as_f64().unwrap() > 0.0 && quant["bits"] == 8, "{node}");
        assert!(node["operator"] != "Conv" || node["acc_bound"].as_u64().unwrap() > 0, "{node}");
    }
}

/// What is left out, or not asked for, changes no bit; threads and parts of the data neither.
#[test]
fn steps_are_chosen_by_effort_and_by_name() {
    let dir = scratch();
    let quantize = |options: &str| {
        let common = "--scheme shift --granularity tensor -o out.onnx";
        let output = run(dir.path(), &format!("quantize FLOAT {common} {options}"));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        fs::read(dir.path().join("out.onnx")).unwrap()
    };
    let data = format!("--calib CALIB {SCALE}");
    let of = |options: &str| quantize(&format!("{data} {options}"));
    let whole = of("");
    assert_eq!(of("--effort 1 --threads 1"), whole);
    let without = of("--without equalize,round-weights");
    assert!(without != whole);
    assert_eq!(of("--effort 0"), without);
    assert_eq!(of("--only bias-correction"), without);
    assert_eq!(of("--only equalize,round-weights"), of("--no-bias-correction"));
    assert_eq!(of("--effort 0 --without bias-correction"), of("--effort 0 --no-bias-correction"));
    let other = format!("quantize FLOAT {data} -o out.onnx --without magic");
    fails(dir.path(), &other, &["there is no step \"magic\""]);
    fails(
        dir.path(),
        &other.replace("--without", "--only"),
        &["error: there is no step \"magic\""],
    );
    prints(dir.path(), &format!("quantize FLOAT {data} --samples 60 --calib-stats some.json"));
    let part = format!("{data} --samples 60 --merge some.json");
    fails(dir.path(), &format!("quantize FLOAT {part} -o out.onnx"), &["seen before"]);
    assert_eq!(quantize("--merge some.json"), of("--samples 60"));
}

/// Ranges that hold half of the values cut off what counts.
#[test]
fn losses_are_warnings_and_with_strict_errors() {
    let dir = scratch();
    let half = format!(
        "quantize FLOAT --calib CALIB {SCALE} -o half.onnx --calibrator percentile --percentile 50"
    );
    let error = fails(dir.path(), &format!("{half} --strict"), &["--strict: nothing is written"]);
    let warning = "% of its energy beyond ";
    assert!(error.starts_with("warning: \"") && error.contains(warning), "{error}");
    assert!(!dir.path().join("half.onnx").exists());
    let output = run(dir.path(), &format!("{half} --json"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(dir.path().join("half.onnx").exists() && stderr.contains(warning), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let losses = summary["losses"].as_array().unwrap();
    assert_eq!(losses.len(), stderr.lines().count());
    let clipped = losses.iter().filter(|loss| loss["kind"] == "clipped");
    assert!(clipped.clone().count() > 0, "{losses:?}");
    assert!(clipped.into_iter().all(|loss| loss["number"].as_f64() > Some(0.01)), "{losses:?}");
    let whole = format!("quantize FLOAT --calib CALIB {SCALE} -o whole.onnx --strict --json");
    assert_eq!(json(dir.path(), &whole)["losses"], serde_json::json!([]));
}

#[test]
fn a_printed_recipe_repeats_the_file_and_refuses_other_data() {
    let dir = scratch();
    let rules = r#"[{"types": ["Conv"], "activations": 16, "calibrator": "mse"}, {"nodes": "fc|Gemm|gemm", "weights": 4},
        {"values": "^image$", "percentile": 99.5}]"#;
    fs::write(dir.path().join("rules.json"), rules).unwrap();
    let options = format!(
        "{SCALE} --recipe rules.json --scheme shift --granularity tensor --samples 50 --output-bits 16"
    );
    for options in [options, format!("{SCALE} --no-bias-correction --percentile 99.9 --mean 0.5")] {
        let first = format!("quantize FLOAT --calib CALIB -o first.onnx --print-recipe {options}");
        let recipe = run(dir.path(), &first);
        assert_eq!(recipe.status.code(), Some(0), "{}", String::from_utf8_lossy(&recipe.stderr));
        fs::write(dir.path().join("whole.json"), &recipe.stdout).unwrap();
        // Printed alone it is the same.
        let alone = first.replace("-o first.onnx", "");
        assert_eq!(run(dir.path(), &alone).stdout, recipe.stdout);
        let again = "quantize FLOAT --calib CALIB -o again.onnx --recipe whole.json";
        assert_eq!(run(dir.path(), again).status.code(), Some(0));
        let [first, again] =
            ["first.onnx", "again.onnx"].map(|name| fs::read(dir.path().join(name)).unwrap());
        assert!(first == again, "{options}");
        let again =
            prints(dir.path(), "quantize FLOAT --calib CALIB --print-recipe --recipe whole.json");
        assert_eq!(again.as_bytes(), recipe.stdout);
        for other in ["--calib TEST", "--calib CALIB --scale 0.5", "--calib CALIB --samples 49"] {
            let other = format!("quantize FLOAT {other} -o other.onnx --recipe whole.json");
            fails(dir.path(), &other, &["the recipe is for other data", " with hash "]);
        }
    }
    let recipe: Value =
        serde_json::from_slice(&fs::read(dir.path().join("whole.json")).unwrap()).unwrap();
    let defaults = serde_json::json!({"scheme": "scale", "granularity": "channel", "activations": 8, "weights": 8,
        "calibrator": "percentile", "percentile": 99.9, "steps": ["narrow-ranges", "equalize", "round-weights"]});
    assert_eq!(recipe["defaults"], defaults);
}

#[test]
fn options_win_over_the_defaults_of_a_recipe() {
    let dir = scratch();
    let defaults = r#"{"version": 1, "defaults": {"activations": 16, "calibrator": "minmax"}}"#;
    fs::write(dir.path().join("wide.json"), defaults).unwrap();
    let quantize = "quantize FLOAT --calib CALIB --samples 20 --recipe wide.json --print-recipe";
    let recipe = |options: &str| {
        let output = run(dir.path(), &format!("{quantize} {options}"));
        let recipe: Value = serde_json::from_slice(&output.stdout).unwrap();
        (recipe["defaults"].clone(), String::from_utf8(output.stderr).unwrap())
    };
    let (defaults, stderr) = recipe("");
    assert_eq!((&defaults["activations"], &defaults["calibrator"]), (&16.into(), &"minmax".into()));
    assert_eq!(stderr, "");
    let (defaults, stderr) = recipe("--activations 8 --percentile 99");
    assert_eq!(
        (&defaults["activations"], &defaults["calibrator"]),
        (&8.into(), &"percentile".into())
    );
    assert_eq!(stderr, "warning: wide.json: \"activations\" is 8, not 16: an option says so\n");
}

/// A bare list is its rules.
#[test]
fn rules_that_change_nothing_are_named() {
    let dir = scratch();
    let rules = r#"[{"types": ["Conv"], "activations": 16}, {"types": ["Flatten", "Reshape", "MaxPool"], "activations": 16},
        {"types": ["MaxPool"], "weights": 4}, {"values": "logits", "calibrator": "mse"}]"#;
    fs::write(dir.path().join("rules.json"), rules).unwrap();
    let quantize = format!(
        "quantize FLOAT --calib CALIB {SCALE} --samples 20 -o out.onnx --recipe rules.json --json"
    );
    let output = run(dir.path(), &quantize);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let idle: Vec<&str> =
        summary["idle_rules"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(idle.len(), 3, "{idle:?}");
    for (number, rule) in [2, 3, 4].into_iter().zip(&idle) {
        assert!(rule.starts_with(&format!("rule {number} changes nothing: {{")), "{rule}");
        assert!(stderr.contains(rule), "{stderr}");
    }
}

#[test]
fn quantize_and_eval_report_the_bundled_network() {
    for (options, least) in [
        ("", 0.94),
        ("--scheme shift", 0.92),
        ("--calibrator percentile --percentile 99.999", 0.94),
    ] {
        let dir = scratch();
        let arguments =
            format!("quantize FLOAT --calib CALIB -o int8.onnx {SCALE} {options} --json");
        let summary = json(dir.path(), &arguments);
        let written = fs::metadata(dir.path().join("int8.onnx")).unwrap().len();
        assert_eq!((&summary["samples"], &summary["bytes"]), (&100.into(), &written.into()));
        assert!(written * 2 < summary["float_bytes"].as_u64().unwrap());
        assert!(summary["acc_bound"].as_u64().unwrap() < 1 << 31);

        let arguments = format!("eval int8.onnx --data TEST --reference FLOAT {SCALE} --json");
        let result = json(dir.path(), &arguments);
        let number = |key: &str| result[key].as_f64().unwrap();
        assert_eq!((number("samples"), number("reference_top1")), (1000.0, 0.945));
        assert!(number("top1") >= least && number("agreement") >= least, "{options}: {result}");
        assert!((10.0..60.0).contains(&number("output_sqnr_db")), "{options}: {result}");
    }
}

/// Asked for once, it holds for all that follows; another is an error.
#[test]
fn preprocessing_is_kept_in_the_file() {
    let dir = scratch();
    prints(dir.path(), "quantize FLOAT --calib CALIB -o int8.onnx --scale 2/255 --std 4/2");
    let kept = json(dir.path(), "eval int8.onnx --data TEST --samples 60 --json");
    let asked =
        "eval int8.onnx --data TEST --samples 60 --scale 0.00784313725490196 --std 2 --json";
    assert_eq!(json(dir.path(), asked), kept);
    assert!(kept["top1"].as_f64().unwrap() > 0.8, "{kept}");
    // Statistics keep it, too, and those of other samples are not merged with them.
    let stats = "quantize FLOAT --calib CALIB --calib-stats";
    prints(dir.path(), &format!("{stats} a.json --scale 2/255 --std 4/2"));
    prints(dir.path(), &format!("{stats} b.json --scale 1/255"));
    prints(dir.path(), "quantize FLOAT --merge a.json -o merged.onnx");
    let read = |file: &str| fs::read(dir.path().join(file)).unwrap();
    assert_eq!(read("merged.onnx"), read("int8.onnx"));
    let both = "quantize FLOAT --merge a.json b.json -o both.onnx";
    fails(dir.path(), both, &["b.json: its samples were made by {\"scale\":0.003"]);
    let asked = "quantize FLOAT --merge a.json --scale 1/255 -o both.onnx";
    fails(dir.path(), asked, &["a.json: its samples were made by {\"scale\":0.007"]);
    let other = "verify int8.onnx --data TEST --targets engine";
    fails_in_a_line(dir.path(), &format!("{other} --scale 1/128"), &["0.0078125", "0.007843138"]);
    fails_in_a_line(dir.path(), &format!("{other} --std 3"), &["--std 3", "says 2"]);
    fails_in_a_line(dir.path(), &format!("{other} --mean 1"), &["--mean 1", "says none"]);
    fails(dir.path(), &format!("{other} --scale 1/0"), &["1/0", "not a finite number"]);
    fails(dir.path(), &format!("{other} --scale a/2"), &["a/2"]);
}

#[test]
fn data_far_from_those_of_the_calibration_are_named() {
    let dir = scratch();
    prints(dir.path(), "quantize FLOAT --calib CALIB -o raw.onnx");
    let stderr = |arguments: &str| {
        let output = run(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(stderr("run raw.onnx --input TEST -o y.npy"), "");
    let small = stderr("run raw.onnx --input TEST -o y.npy --scale 1/255");
    assert_eq!(
        small,
        "warning: input \"image\": seen 0…1, calibrated for 0…255: 2 of 256 codes used\n"
    );
    let large = stderr("eval raw.onnx --data TEST --scale 4");
    assert!(large.contains("seen 0…1020, calibrated for 0…255: ") && large.contains("% clipped"));
}

#[test]
fn arrays_with_their_channels_last_fit_a_network_that_has_them_first() {
    let dir = scratch();
    let (float, shape) = (dir.path().join("float.onnx"), [2, 3, 4, 5]);
    let mut net = Graph { name: "net".into(), ..Graph::default() };
    let value = |name: &str| graph::Value {
        name: name.into(),
        shape: vec![1, 5, 3, 4],
        ..graph::Value::default()
    };
    let (x, y) = (net.add_value(value("x")), net.add_value(value("y")));
    let op = Op::Unary(Unary::Tanh);
    let (name, parts, inputs) = ("tanh".into(), Parts::default(), vec![x]);
    net.nodes.push(Node { name, parts, op, clamp: Clip::NONE, inputs, output: y });
    (net.inputs, net.outputs) = (vec![x], vec![y]);
    fs::write(&float, onnx::export(&net)).unwrap();
    let last = pseudo_random(&shape, 3);
    save(&dir.path().join("last.npy"), std::slice::from_ref(&last));
    save(&dir.path().join("first.npy"), &[last.transpose(&[0, 3, 1, 2])]);
    prints(dir.path(), "quantize float.onnx --calib last.npy --layout nhwc -o int8.onnx");
    for model in ["float.onnx", "int8.onnx"] {
        prints(dir.path(), &format!("run {model} --input last.npy --layout nhwc -o a.npy"));
        prints(dir.path(), &format!("run {model} --input first.npy -o b.npy"));
        let [a, b] = ["a.npy", "b.npy"].map(|name| fs::read(dir.path().join(name)).unwrap());
        assert_eq!(a, b, "{model}");
    }
    let hint = "the data seem to have their channels last (--layout nhwc)";
    fails_in_a_line(dir.path(), "run float.onnx --input last.npy -o a.npy", &[hint]);
    fails_in_a_line(dir.path(), "quantize float.onnx --calib last.npy -o i.onnx", &[hint]);
}

#[test]
fn eval_prints_what_it_can() {
    let dir = quantized("--samples 10");
    let all = prints(
        dir.path(),
        &format!("eval int8.onnx --data TEST --reference FLOAT --samples 50 {SCALE}"),
    );
    let lines: Vec<&str> = all.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(lines, ["samples", "float top-1", "top-1", "agreement", "output SQNR"]);
    let alone =
        json(dir.path(), &format!("eval int8.onnx --data TEST --samples 50 {SCALE} --json"));
    assert_eq!((&alone["samples"], &alone["agreement"]), (&50.into(), &Value::Null));
    save(&dir.path().join("x.npy"), &[pixels(3)]);
    let unlabelled = prints(dir.path(), "eval int8.onnx --data x.npy");
    assert_eq!(unlabelled.trim(), "samples      3");
}

#[test]
fn run_writes_real_values_or_codes() {
    let dir = quantized("");
    save(&dir.path().join("x.npy"), &[pixels(3)]);
    let outputs = |arguments: &str| {
        prints(dir.path(), &format!("run {arguments} --input x.npy -o y.npy"));
        let bytes = fs::read(dir.path().join("y.npy")).unwrap();
        let array = read_npy(&bytes[..]).unwrap();
        assert_eq!(array.shape(), [3, 10]);
        (String::from_utf8_lossy(&bytes[10..60]).contains("'<f4'"), array)
    };
    let (is_f32, _) = outputs("FLOAT");
    assert!(is_f32);
    let (is_f32, real) = outputs("int8.onnx");
    assert!(is_f32);
    let (is_f32, codes) = outputs("int8.onnx --codes");
    assert!(!is_f32 && matches!(codes, naive_ptq::data::Array::I8(_)));
    let quant = &json(dir.path(), "inspect int8.onnx --json")["outputs"][0]["quant"];
    let (scale, zero) =
        (quant["scale"][0].as_f64().unwrap() as f32, quant["zero_point"].as_f64().unwrap());
    let dequantized = codes.to_f32().map(|&code| (code - zero as f32) * scale);
    assert_eq!(dequantized, real.to_f32());
    fails_in_a_line(
        dir.path(),
        "run FLOAT --input x.npy -o z.npy --codes",
        &["float.onnx is not quantized"],
    );
}

#[test]
fn results_do_not_depend_on_threads() {
    let results = [1, 2].map(|threads| {
        let dir = quantized(&format!("--threads {threads}"));
        save(&dir.path().join("x.npy"), &[pixels(9)]);
        let eval = format!(
            "eval int8.onnx --data TEST --reference FLOAT --samples 200 --json {SCALE} --threads {threads}"
        );
        let eval = prints(dir.path(), &eval);
        prints(dir.path(), &format!("run int8.onnx --input x.npy -o y.npy --threads {threads}"));
        (eval, ["int8.onnx", "y.npy"].map(|file| fs::read(dir.path().join(file)).unwrap()))
    });
    assert!(results[0] == results[1]);
}

#[test]
fn help_has_examples() {
    let dir = scratch();
    for command in
        ["inspect", "quantize", "tune", "run", "eval", "blame", "deploy", "verify", "bench"]
    {
        let help = prints(dir.path(), &format!("{command} --help"));
        let example = format!("Examples:\n  naive-ptq {command} ");
        assert!(help.contains(&example) && help.contains("Usage: naive-ptq"), "{help}");
    }
    let help = prints(dir.path(), "--help");
    assert!(
        help.contains("Exit status: 0 if all went well, 1 if a check failed, 2 on an error"),
        "{help}"
    );
    assert!(prints(dir.path(), "--version").starts_with("naive-ptq "));
}

#[test]
fn bench_reports_time_and_memory() {
    let dir = quantized("--samples 10");
    let all = json(dir.path(), "bench int8.onnx --isa all --runs 3 --layers --check --json");
    let isas = all["isas"].as_array().unwrap();
    assert!(isas[0]["isa"] == "portable" && isas.last().unwrap()["isa"] == all["detected_isa"]);
    for one in isas {
        let number = |key: &str| one[key].as_f64().unwrap();
        assert!(number("load_ms") > 0.0 && number("plan_ms") > 0.0, "{one}");
        assert!(number("latency_ms_min") <= number("latency_ms_median"), "{one}");
        assert!(number("f32_macs_per_cycle") >= 1.0 && one["int8_pays"].is_boolean(), "{one}");
        assert!(one["share_of_limit"].is_null() == (one["isa"] == "portable"), "{one}");
        assert!(one["equal"] == true && one["runs"] == 3, "{one}");
        assert!(!one["layers"].as_array().unwrap().is_empty(), "{one}");
        if cfg!(target_os = "linux") {
            assert!(number("peak_rss_bytes") > number("arena_bytes") + number("constant_bytes"));
        }
    }
    let asked = prints(dir.path(), "bench int8.onnx --isa portable --runs 3 --layers");
    for text in ["path", "depthwise", "portable (asked for", "load ", "plan "] {
        assert!(asked.contains(text), "{text:?} is not in {asked}");
    }
    let detected = prints(dir.path(), "bench int8.onnx --runs 3");
    let isa = all["detected_isa"].as_str().unwrap();
    assert!(detected.starts_with(&format!("{isa} (the fastest that this CPU has)")), "{detected}");
    fails_in_a_line(dir.path(), "bench FLOAT", &["float.onnx is not quantized"]);
    fails_in_a_line(dir.path(), "bench int8.onnx --isa odd", &["\"odd\"", "portable"]);
}

#[test]
fn paths_may_hold_spaces() {
    let dir = scratch();
    let folder = dir.path().join("a folder");
    fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::copy(fashion("float.onnx"), path("my float.onnx")).unwrap();
    let data = fashion("calib.npz");
    let arguments =
        ["quantize", &path("my float.onnx"), "--calib", text(&data), "-o", &path("my int8.onnx")];
    let binary = env!("CARGO_BIN_EXE_naive-ptq");
    assert!(Command::new(binary).args(arguments).output().unwrap().status.success());
    assert!(
        Command::new(binary)
            .args(["inspect", &path("my int8.onnx")])
            .output()
            .unwrap()
            .status
            .success()
    );
}

/// An error is one line that names the file, and what was there before stays.
#[test]
fn errors() {
    let dir = quantized("--samples 2");
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    let float = fs::read(fashion("float.onnx")).unwrap();
    write("truncated.onnx", &float[..float.len() / 2]);
    write("text.onnx", b"This is no model.");
    write("text.npz", b"This is no data.");
    write("unknown.json", br#"{"version": 1, "defaults": {"activation": 16}}"#);
    write("rules.json", b"[{\"nodes\": \"nobody\", \"activations\": 16}]");
    write("out.onnx", b"what was there before");
    fs::create_dir(dir.path().join("folder")).unwrap();
    save(&dir.path().join("narrow.npy"), &[pseudo_random(&[3, 1, 28, 27], 1)]);
    save(&dir.path().join("nan.npy"), &[pseudo_random(&[1, 1, 28, 28], 1).map(|_| f32::NAN)]);
    let calib = fs::read(fashion("calib.npz")).unwrap();
    // Both names of the archive's member "x.npy": in front of it, and in the table at the end.
    let renamed: Vec<u8> = (0..calib.len())
        .map(|i| if calib[i..].starts_with(b"x.npy") { b'z' } else { calib[i] })
        .collect();
    write("without_x.npz", &renamed);

    let quantize = "--calib CALIB -o out.onnx";
    for (arguments, texts) in [
        ("inspect missing.onnx", &["missing.onnx: No such file"][..]),
        (
            "quantize text.onnx --calib CALIB -o ./text.onnx",
            &["./text.onnx is to be written, and is read, too"],
        ),
        (
            "run int8.onnx --input narrow.npy -o narrow.npy",
            &["narrow.npy is to be written, and is read, too"],
        ),
        ("inspect folder", &["folder: "]),
        ("inspect truncated.onnx", &["truncated.onnx: not an ONNX model"]),
        ("inspect text.onnx", &["text.onnx: not an ONNX model"]),
        (&format!("quantize missing.onnx {quantize}"), &["missing.onnx: No such file"]),
        (&format!("quantize truncated.onnx {quantize}"), &["truncated.onnx: not an ONNX"]),
        (
            &format!("quantize int8.onnx {quantize}"),
            &["int8.onnx: the network is quantized already"],
        ),
        (
            &format!("quantize FLOAT {quantize} --percentile 0"),
            &["--percentile 0: expected more than"],
        ),
        (&format!("quantize FLOAT {quantize} --std 0"), &["std"]),
        (&format!("quantize FLOAT {quantize} --crop 28"), &["crop is for images"]),
        ("quantize FLOAT --calib missing.npz -o out.onnx", &["missing.npz: No such file"]),
        ("quantize FLOAT --calib text.npz -o out.onnx", &["text.npz: not a readable zip"]),
        ("quantize FLOAT --calib folder -o out.onnx", &["folder: "]),
        (
            "quantize FLOAT --calib text.onnx -o out.onnx",
            &["text.onnx: unsupported: not a dataset"],
        ),
        (
            "quantize FLOAT --calib without_x.npz -o out.onnx",
            &[
                "nothing for input \"image\": the network's inputs are \"image\" [1, 1, 28, 28]; the data are \"y\" [100], \"z\" [100, 1, 28, 28]",
            ],
        ),
        (
            "quantize FLOAT --calib narrow.npy -o out.onnx",
            &["input \"image\" has shape [1, 1, 28, 28], got [1, 1, 28, 27]"],
        ),
        ("quantize FLOAT --calib nan.npy -o out.onnx", &["sample 0: ", "\"image\"", "not finite"]),
        // Before any sample is looked at.
        (
            "quantize FLOAT --calib nan.npy --recipe rules.json -o out.onnx",
            &["rules.json: rule 1 matches nothing: {\"nodes\":\"nobody\"}"],
        ),
        (
            "quantize FLOAT --calib nan.npy --recipe unknown.json -o out.onnx",
            &["unknown.json: ", "defaults: there is no setting \"activation\""],
        ),
        (
            "quantize FLOAT --calib nan.npy --recipe text.npz -o out.onnx",
            &["text.npz: not a recipe"],
        ),
        (
            "quantize FLOAT --calib CALIB --scale 1/255 --samples 12 -o missing/out.onnx",
            &["missing/out.onnx: "],
        ),
        ("quantize FLOAT --calib CALIB --scale 1/255 --samples 12 -o folder", &["folder: "]),
        ("run int8.onnx --input narrow.npy -o out.onnx", &["[1, 1, 28, 28], got [1, 1, 28, 27]"]),
        ("run int8.onnx --input text.npz -o out.onnx", &["text.npz: not a readable zip"]),
        ("run int8.onnx --input missing.npy -o out.onnx", &["missing.npy: No such file"]),
        ("eval int8.onnx --data narrow.npy", &["[1, 1, 28, 28], got [1, 1, 28, 27]"]),
        ("eval int8.onnx --data TEST --reference text.onnx", &["text.onnx: not an ONNX model"]),
        (
            "quantize FLOAT --calib CALIB -o a.onnx --calib-stats ./a.onnx",
            &["./a.onnx is to be written twice"],
        ),
        ("deploy int8.onnx --target c -o c --test-vectors 65536", &["each has 794 codes"]),
    ] {
        fails_in_a_line(dir.path(), arguments, texts);
    }
    for (arguments, texts) in [
        ("", &["Usage: naive-ptq"][..]),
        ("frobnicate", &["unrecognized subcommand 'frobnicate'"]),
        ("inspect", &["<MODEL>"]),
        ("inspect FLOAT --frobnicate", &["unexpected argument '--frobnicate'"]),
        (
            &format!("quantize FLOAT {quantize} --scheme odd"),
            &["invalid value 'odd'", "shift, scale"],
        ),
        (
            &format!("quantize FLOAT {quantize} --granularity odd"),
            &["invalid value 'odd'", "tensor, channel"],
        ),
        (
            &format!("quantize FLOAT {quantize} --calibrator odd"),
            &["invalid value 'odd'", "minmax, "],
        ),
        (&format!("quantize FLOAT {quantize} --threads 0"), &["invalid value '0'"]),
        (&format!("quantize FLOAT {quantize} --samples -1"), &["'-1'"]),
        (&format!("quantize FLOAT {quantize} --samples 0"), &["'0'", "--samples"]),
        (
            "deploy int8.onnx --target c -o c --test-vectors 18446744073709551615",
            &["--test-vectors"],
        ),
        ("conv --samples 18446744073709551615", &["--samples"]),
        ("conv --samples 0", &["--samples"]),
        ("eval int8.onnx", &["--data <DATA>"]),
    ] {
        fails(dir.path(), arguments, texts);
    }
    assert_eq!(fs::read(dir.path().join("out.onnx")).unwrap(), b"what was there before");
    // Nothing is left of what was begun.
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    names.sort();
    let expected = [
        "folder",
        "int8.onnx",
        "nan.npy",
        "narrow.npy",
        "out.onnx",
        "rules.json",
        "text.npz",
        "text.onnx",
        "truncated.onnx",
        "unknown.json",
        "without_x.npz",
    ];
    assert_eq!(names, expected);
}

/// Images for a network of one channel are gray, and become the arrays that they were.
#[test]
#[cfg(feature = "images")]
fn a_folder_of_images_feeds_a_network_of_one_channel() {
    let dir = scratch();
    let data =
        naive_ptq::Dataset::open(fashion("calib.npz"), &Default::default()).unwrap().take(20);
    let folder = dir.path().join("photos");
    fs::create_dir(&folder).unwrap();
    for i in 0..data.len() {
        let pixels = data.sample(i).unwrap().data().iter().map(|&x| x as u8).collect();
        let image = image::GrayImage::from_raw(28, 28, pixels).unwrap();
        image.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
    run(dir.path(), &format!("quantize FLOAT --calib CALIB --samples 20 {SCALE} -o arrays.onnx"));
    run(dir.path(), &format!("quantize FLOAT --calib photos {SCALE} -o photos.onnx"));
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert_eq!(read("arrays.onnx"), read("photos.onnx"));
    let eval = |data: &str| {
        let eval = format!("eval photos.onnx --data {data} --samples 20 --reference FLOAT --json");
        json(dir.path(), &eval)["output_sqnr_db"].clone()
    };
    assert_eq!(eval("photos"), eval("CALIB"));
}

/// What comes of calibration data that cannot be right, or say little.
#[test]
fn strange_samples_are_named() {
    let dir = scratch();
    let path = dir.path();
    let said = |args: &str| {
        let output = run(path, args);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let whole = format!("quantize FLOAT --calib CALIB {SCALE} -o whole.onnx");
    assert_eq!(said(&whole), "");
    let one = said(&format!("{whole} --samples 1"));
    assert!(one.contains("hint: calibrated on 1 sample: 100 or more are advised"), "{one}");
    let unscaled = said("quantize FLOAT --calib CALIB -o unscaled.onnx");
    assert!(unscaled.contains("is --scale 1/255 missing?"), "{unscaled}");
    for part in ["a", "b"] {
        let samples = if part == "a" { 40 } else { 60 };
        said(&format!(
            "quantize FLOAT --calib CALIB {SCALE} --samples {samples} --calib-stats {part}.json"
        ));
    }
    for merged in ["--merge a.json a.json", "--merge b.json a.json", "--calib CALIB --merge a.json"]
    {
        let twice = format!("quantize FLOAT {merged} {SCALE} -o twice.onnx");
        fails(path, &twice, &["a.json: its samples were seen before: each part is merged once"]);
    }
}

#[test]
fn checks_of_accuracy_fail_with_1_and_name_layers() {
    let dir = quantized("--scheme shift");
    let dir = dir.path();
    let eval = format!("eval int8.onnx --data TEST --reference FLOAT --samples 200 {SCALE}");
    let lax = format!("{eval} --min-sqnr 3 --min-agreement 50 --max-drop 30");
    assert!(prints(dir, &lax).contains("passed: --max-drop 30, and it is "));
    for strict in ["--min-sqnr 40", "--min-agreement 101", "--max-drop=-5"] {
        let failed = run(dir, &format!("{eval} {strict}"));
        let stdout = String::from_utf8(failed.stdout).unwrap();
        assert_eq!(failed.status.code(), Some(1), "{stdout}");
        assert!(stdout.contains("failed: ") && stdout.contains(" loses "), "{stdout}");
        let json = run(dir, &format!("{eval} {strict} --json"));
        assert_eq!(json.status.code(), Some(1));
        let json: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(json["checks"][0]["passed"], false);
        let layers = json["worst_layers"].as_array().unwrap();
        let drops: Vec<f64> = layers.iter().map(|it| it["drop_db"].as_f64().unwrap()).collect();
        assert!(drops.len() == 5 && drops.is_sorted_by(|a, b| a >= b), "{drops:?}");
    }
    fails(dir, &format!("eval int8.onnx --data TEST --min-sqnr 3 {SCALE}"), &["--reference"]);
    fails(dir, &format!("{eval} --min-sqnr nan"), &["not a finite number"]);
    let x = write_npy(&pixels(4));
    fs::write(dir.join("x.npy"), x).unwrap();
    let unlabelled = format!("eval int8.onnx --data x.npy --reference FLOAT {SCALE} --max-drop 1");
    fails_in_a_line(dir, &unlabelled, &["--max-drop needs labels that fit an output of classes"]);
}

#[test]
fn ranges_that_were_written_give_the_same_file() {
    for scheme in ["--scheme scale", "--scheme shift --granularity tensor"] {
        let dir = scratch();
        let dir = dir.path();
        let quantize = format!("quantize FLOAT --calib CALIB {SCALE} --effort 0 {scheme}");
        for format in ["plain", "aimet-0.6.1", "aimet-1.0.0"] {
            let write = "-o a.onnx --write-ranges ranges.json --ranges-format";
            let wrote = run(dir, &format!("{quantize} {write} {format} --calibrator minmax"));
            assert_eq!(wrote.status.code(), Some(0), "{wrote:?}");
            // Another calibrator would choose others.
            let again = format!("{quantize} -o b.onnx --calibrator percentile --percentile 90");
            assert_eq!(run(dir, &again).status.code(), Some(0));
            let file = |name: &str| fs::read(dir.join(name)).unwrap();
            assert!(file("a.onnx") != file("b.onnx"));
            let again = run(dir, &format!("{again} --ranges ranges.json"));
            assert_eq!(again.status.code(), Some(0), "{again:?}");
            assert!(file("a.onnx") == file("b.onnx"), "{scheme} {format}");
        }
        let refused = format!("{quantize} -o c.onnx --ranges other.json");
        for (text, message) in [
            (r#"{"nothing": {"lo": 0, "hi": 1}}"#, "\"nothing\""),
            (r#"{"x": {"lo": 1, "hi": 0}}"#, "other.json"),
            (r#"{"x": 3}"#, "is not"),
            ("[", "not JSON"),
        ] {
            fs::write(dir.join("other.json"), text).unwrap();
            fails_in_a_line(dir, &refused, &[message, "other.json"]);
        }
    }
}
