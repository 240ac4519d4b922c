//! `tune`, and `quantize --activations auto`.

use super::*;

const QUICK: &str = "--effort 0 --samples 40";

#[test]
fn tune_reaches_its_goal_and_its_recipe_gives_the_same_file() {
    let dir = scratch();
    let data = format!("--calib CALIB {SCALE}");
    let tune = format!("tune FLOAT {data} {QUICK} --target-sqnr 36");
    let text = prints(dir.path(), &format!("{tune} --resume search.json -o mixed.onnx"));
    for part in ["as asked for", "8 to 16", "SQNR dB", "weighted MACs", "mixed.recipe.json"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    prints(dir.path(), &format!("quantize FLOAT {data} --recipe mixed.recipe.json -o same.onnx"));
    let again = format!("{tune} --resume search.json --threads 1 --write-recipe r.json --json");
    let facts = json(dir.path(), &format!("{again} -o again.onnx"));
    assert_eq!(facts["measured"], 0);
    assert!(facts["sqnr_db"].as_f64().unwrap() >= 36.0, "{facts}");
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("same.onnx") == read("mixed.onnx") && read("again.onnx") == read("mixed.onnx"));
    assert!(read("r.json") == read("mixed.recipe.json"));
    let inspected = json(dir.path(), "inspect mixed.onnx --json");
    assert_eq!(inspected["ram_bytes"]["c"], facts["ram_bytes"]);
    assert_eq!(inspected["constant_bytes"], facts["constant_bytes"]);
}

#[test]
fn tune_says_what_cannot_be() {
    let dir = scratch();
    let tune = format!("tune FLOAT --calib CALIB {SCALE} {QUICK} -o out.onnx");
    fails(dir.path(), &tune, &["--target-sqnr", "--max-ram"]);
    fails(dir.path(), &format!("{tune} --top1-drop 1"), &["--data"]);
    fails(dir.path(), &format!("{tune} --target-sqnr 20 --resume CALIB"), &["is to be written"]);
    fails_in_a_line(
        dir.path(),
        &format!("{tune} --max-ram 5000 --weights 8"),
        &["the limits cannot be kept; bytes of RAM: at least ", ", not 5000"],
    );
    fails_in_a_line(
        dir.path(),
        &format!("{tune} --target-sqnr 20 --activations 4"),
        &["activations of 4 bits"],
    );
    assert!(!dir.path().join("out.onnx").exists());
}

#[test]
fn activations_are_found_within_a_tenth_more() {
    let dir = scratch();
    let quantize = format!("quantize FLOAT --calib CALIB {SCALE} {QUICK}");
    let db = |file: &str| {
        let eval = format!("eval {file} --data TEST --samples 50 --reference FLOAT --json");
        json(dir.path(), &eval)["output_sqnr_db"].as_f64().unwrap()
    };
    let ram = |file: &str| {
        json(dir.path(), &format!("inspect {file} --json"))["ram_bytes"]["c"].as_f64().unwrap()
    };
    prints(dir.path(), &format!("{quantize} -o plain.onnx"));
    let auto = format!("{quantize} --activations auto");
    let recipe = prints(dir.path(), &format!("{auto} --print-recipe -o auto.onnx"));
    assert!(db("auto.onnx") > db("plain.onnx") + 0.5, "{} {}", db("auto.onnx"), db("plain.onnx"));
    assert!(ram("auto.onnx") <= 1.1 * ram("plain.onnx"));
    fs::write(dir.path().join("recipe.json"), &recipe).unwrap();
    let same = "quantize FLOAT --calib CALIB --recipe recipe.json -o same.onnx";
    assert_eq!(run(dir.path(), same).status.code(), Some(0));
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("same.onnx") == read("auto.onnx"));
}

/// What wins nothing one by one may win together; and no result is worse than what was asked for.
#[test]
fn tune_reaches_what_all_that_is_wide_reaches() {
    let dir = scratch();
    let scheme = "--scheme shift --granularity tensor";
    let tune = format!("tune FLOAT --calib CALIB {SCALE} {scheme} --json -o out.onnx");
    let goal = json(dir.path(), &format!("{tune} --weights 8 --target-sqnr 40"));
    assert!(goal["sqnr_db"].as_f64().unwrap() >= 40.0, "{goal}");
    let room = json(dir.path(), &format!("{tune} --weights 8 --max-ram 80000"));
    assert!(room["sqnr_db"].as_f64() >= goal["sqnr_db"].as_f64(), "{room}");
    assert!(room["ram_bytes"].as_u64().unwrap() <= 80000, "{room}");
}
