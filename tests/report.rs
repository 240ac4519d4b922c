//! The page of `--report`: its numbers are those of `--json`, nothing in it is markup that was a name, and a browser shows it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use naive_ptq::onnx;
use serde_json::Value;
use tools::{fashion, programs, pseudo_random, save, scratch, shared, text};

/// What the program prints, as JSON.
#[track_caller]
fn json(dir: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_naive-ptq"));
    let output = command.args(arguments).current_dir(dir).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The bundled network with scales that lose something, and its report.
fn quantized(dir: &Path) -> (String, Value) {
    let [float, calib] = ["float.onnx", "calib.npz"].map(fashion);
    let arguments = [
        "quantize",
        text(&float),
        "--calib",
        text(&calib),
        "--scale",
        "1/255",
        "--samples",
        "8",
        "--scheme",
        "shift",
        "--granularity",
        "tensor",
        "--effort",
        "0",
        "-o",
        "int8.onnx",
        "--report",
        "page.html",
        "--json",
    ];
    let facts = json(dir, &arguments);
    (fs::read_to_string(dir.join("page.html")).unwrap(), facts)
}

/// A piece of a page: a tag, with its attributes, or text.
enum Piece {
    Open(String, Vec<(String, String)>),
    Close,
    Text(String),
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&#39;", "'").replace("&amp;", "&")
}

/// All of a page, its style excepted.
fn pieces(html: &str) -> Vec<Piece> {
    let (head, rest) = html.split_once("<style>").unwrap();
    let html = head.to_owned() + rest.split_once("</style>").unwrap().1;
    let mut pieces = Vec::new();
    for part in html.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap();
        assert!(!text.contains('>'), "{text}");
        match tag.strip_prefix('/') {
            Some(_) => pieces.push(Piece::Close),
            None => {
                let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
                let mut attributes = Vec::new();
                while let Some((key, value)) = rest.split_once("=\"") {
                    let (value, behind) = value.split_once('"').unwrap();
                    attributes.push((key.trim().into(), unescaped(value)));
                    rest = behind;
                }
                pieces.push(Piece::Open(name.trim_end_matches('/').into(), attributes));
            }
        }
        if !text.trim().is_empty() {
            pieces.push(Piece::Text(unescaped(text)));
        }
    }
    pieces
}

/// Numbers and strings of `value`, keys included.
fn facts_of(value: &Value, numbers: &mut Vec<f64>, strings: &mut Vec<String>) {
    match value {
        Value::Number(number) => numbers.push(number.as_f64().unwrap()),
        Value::String(string) => strings.push(string.clone()),
        Value::Array(all) => {
            numbers.push(all.len() as f64);
            all.iter().for_each(|value| facts_of(value, numbers, strings));
        }
        Value::Object(all) => all.iter().for_each(|(key, value)| {
            strings.push(key.clone());
            facts_of(value, numbers, strings);
        }),
        _ => {}
    }
}

/// Whether `shown` is `value`, rounded to the digits that it has.
fn is_shown(shown: &str, value: f64) -> bool {
    let shown: String = shown.chars().filter(|c| *c != '\u{202F}').collect();
    if let Some(power) = shown.strip_prefix("2^") {
        return value == 2f64.powi(power.parse().unwrap());
    }
    if shown.starts_with('∞') {
        return value >= 999.0;
    }
    let number = shown.split(' ').next().unwrap();
    let (mantissa, exponent) = number.split_once('e').unwrap_or((number, "0"));
    let decimals = mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let unit = 10f64.powi(exponent.parse::<i32>().unwrap() - decimals as i32);
    let value = if shown.ends_with('%') { 100.0 * value } else { value };
    (number.parse::<f64>().unwrap() - value).abs() <= 0.5001 * unit
}

/// Every number of the page is one of `facts`, and whatever else has a digit is a word of theirs. Returns how many there were.
#[track_caller]
fn has_the_numbers_of(html: &str, facts: &Value) -> usize {
    let (mut numbers, mut strings) = (Vec::new(), Vec::new());
    facts_of(facts, &mut numbers, &mut strings);
    numbers.sort_by(f64::total_cmp);
    // A number is read from JSON with an error in its last bit.
    let is_fact = |x: f64| {
        let at = numbers.partition_point(|&it| it < x - 1e-15 * x.abs());
        numbers.get(at).is_some_and(|&it| it <= x + 1e-15 * x.abs())
    };
    strings.push("top-1".into());
    let strings = strings.join("\n");
    // In a recipe numbers stand by themselves.
    let words = |text: &str| {
        let text = text.replace(['…', '\'', '"', ',', ':', '{', '}', '[', ']', '，', '：'], " ");
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let known: BTreeSet<String> = words(&format!("{strings}\n{facts}")).into_iter().collect();
    let (mut number, mut in_json, mut count) = (None, false, 0);
    for piece in pieces(html) {
        match piece {
            Piece::Open(tag, attributes) => {
                let of = |key: &str| {
                    attributes.iter().find(|(own, _)| own == key).map(|it| it.1.clone())
                };
                in_json = tag == "pre" && of("class").as_deref() == Some("json");
                number = of("data-value").or(of("value").filter(|_| tag == "data"));
            }
            Piece::Close => (number, in_json) = (None, false),
            Piece::Text(text) => match number.take() {
                Some(number) => {
                    let value: f64 = number.parse().unwrap();
                    assert!(is_fact(value), "{number}, shown as {text}, is no fact");
                    assert!(is_shown(&text, value), "{number} is shown as {text}");
                    count += 1;
                }
                None if in_json => {
                    let json: Value = serde_json::from_str(&text).unwrap();
                    assert!(contains(facts, &json), "{text}");
                }
                None => {
                    for word in words(&text)
                        .into_iter()
                        .filter(|it| it.contains(|c: char| c.is_ascii_digit()))
                    {
                        let is_part = known.contains(&word) || strings.contains(&word);
                        assert!(is_part, "\"{word}\" of \"{text}\" is no fact");
                    }
                }
            },
        }
    }
    count
}

fn contains(facts: &Value, wanted: &Value) -> bool {
    facts == wanted
        || match facts {
            Value::Array(all) => all.iter().any(|value| contains(value, wanted)),
            Value::Object(all) => all.values().any(|value| contains(value, wanted)),
            _ => false,
        }
}

/// Elements and attributes that a page may have: nothing runs, and nothing is fetched.
#[track_caller]
fn is_self_contained(html: &str) {
    let elements = "html head meta title body header nav main section form fieldset input label h1 h2 h3 p b ul li br a span code pre \
                    data img figure figcaption table thead tbody tr th td div details summary svg rect path text tspan";
    let elements: BTreeSet<&str> = elements.split_whitespace().collect();
    for piece in pieces(&html.replace("<!DOCTYPE html>", "")) {
        if let Piece::Open(tag, attributes) = piece {
            assert!(elements.contains(&*tag), "<{tag}>");
            for (key, value) in attributes {
                assert!(!key.starts_with("on"), "{key}");
                match &*key {
                    "src" => assert!(value.starts_with("data:image/bmp;base64,")),
                    "href" => assert!(value.starts_with('#'), "{value}"),
                    "style" => {
                        assert!(value.starts_with("--heat:") && !value.contains("url"), "{value}")
                    }
                    _ => {}
                }
            }
        }
    }
    let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert!(!style.contains("url(") && !style.contains("@import"));
}

#[test]
fn the_page_has_the_numbers_of_the_facts() {
    let dir = scratch();
    let (page, facts) = quantized(dir.path());
    let count = has_the_numbers_of(&page, &facts["report"]);
    assert!(count > 500, "{count}");
    is_self_contained(&page);
    let report = &facts["report"];
    let verdict = page.split("class=\"verdict").nth(1).unwrap().split("</span>").next().unwrap();
    for (text, value) in [
        ("<b>Good</b>: on ", "/evaluation/samples"),
        (" samples ", "/evaluation/agreement"),
        ("top-1 is ", "/evaluation/top1"),
        ("that of the float network ", "/evaluation/reference_top1"),
        ("the output has ", "/evaluation/output_sqnr_db"),
    ] {
        let expected =
            format!("{text}<data value=\"{}\">", report.pointer(value).unwrap().as_f64().unwrap());
        assert!(verdict.contains(&expected), "{expected} in {verdict}");
    }
    // Each node is in the graph, in the list of layers, and in the table of the device.
    for node in report["nodes"].as_array().unwrap() {
        let name = node["name"].as_str().unwrap();
        assert!(page.matches(name).count() >= 3, "{name}");
    }
    assert_eq!(page.matches("data:image/bmp").count(), 8);
    assert_eq!(
        page.matches("class=\"node\"").count(),
        1 + report["nodes"].as_array().unwrap().len()
    );

    // The facts are those of the other commands.
    let data = fashion("calib.npz");
    let float = fashion("float.onnx");
    let on = [
        "int8.onnx",
        "--data",
        text(&data),
        "--reference",
        text(&float),
        "--samples",
        "8",
        "--json",
    ];
    let blame = json(dir.path(), &[&["blame"], &on[..]].concat());
    assert_eq!(blame, report["blame"]);
    let plain = json(dir.path(), &[&["eval"], &on[..]].concat());
    assert_eq!(plain, report["evaluation"]);
    let with = ["--report", "eval.html", "--model-explorer", "nodes.json"];
    let mut evaluated = json(dir.path(), &[&["eval"], &on[..], &with].concat());
    let own = evaluated.as_object_mut().unwrap().remove("report").unwrap();
    assert_eq!(evaluated, plain);
    for same in ["blame", "nodes", "values", "memory", "answers"] {
        assert_eq!(own[same], report[same], "{same}");
    }
    assert_eq!(own["run"]["data_hash"], report["run"]["recipe"]["data"]["hash"]);
    has_the_numbers_of(&fs::read_to_string(dir.path().join("eval.html")).unwrap(), &own);

    let nodes: Value =
        serde_json::from_slice(&fs::read(dir.path().join("nodes.json")).unwrap()).unwrap();
    for node in own["nodes"].as_array().unwrap() {
        for key in ["name", "output"] {
            assert_eq!(nodes["results"][node[key].as_str().unwrap()]["value"], node["share"]);
        }
    }
    let stops: Vec<&Value> =
        nodes["gradient"].as_array().unwrap().iter().map(|it| &it["stop"]).collect();
    assert_eq!(stops, [0, 1]);
}

/// That the test above can fail.
#[test]
fn numbers_that_are_no_facts_are_found() {
    let facts = serde_json::json!({"share": 0.9431, "name": "conv1"});
    let page = |body: &str| format!("<html><style></style>{body}</html>");
    let good = page("<data value=\"0.9431\">94.31 %</data><code>conv1</code> top-1");
    assert_eq!(has_the_numbers_of(&good, &facts), 1);
    for bad in [
        "<data value=\"0.9431\">94.32 %</data>",
        "<data value=\"0.9432\">94.32 %</data>",
        "<svg><text><tspan data-value=\"0.9431\">0.94</tspan>7</text></svg>",
        "<p>conv2</p>",
        "<pre class=\"json\">{\"share\": 1}</pre>",
    ] {
        let found = std::panic::catch_unwind(|| has_the_numbers_of(&page(bad), &facts));
        assert!(found.is_err(), "{bad}");
    }
}

#[test]
fn names_are_never_markup() {
    let dir = scratch();
    let mut graph = onnx::load(&fashion("float.onnx")).unwrap();
    let bad = "</code></svg><script>document.title='x'</script>\" onclick=\"y\u{202e}&amp;<!--";
    graph.name = format!("{bad}net");
    for (i, node) in graph.nodes.iter_mut().enumerate() {
        node.name = format!("{bad}{i}");
    }
    for (i, value) in graph.values.iter_mut().enumerate() {
        value.name = format!("{bad}v{i}");
    }
    fs::write(dir.path().join("float.onnx"), onnx::export(&graph)).unwrap();
    let input = pseudo_random(&[1, 1, 28, 28], 1);
    save(&dir.path().join("x.npy"), &[input.clone(), input]);
    let arguments =
        "quantize float.onnx --calib x.npy --effort 0 -o int8.onnx --report page.html --json";
    let facts = json(dir.path(), &arguments.split(' ').collect::<Vec<_>>());
    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    is_self_contained(&page);
    assert!(page.contains("&lt;script&gt;") && !page.contains('\u{202e}'));
    assert_eq!(facts["report"]["network"], graph.name.as_str());
}

/// The visible text of `page` in a browser window of this width, and how wide the page is there.
fn in_browser(dir: &Path, page: &str, width: usize) -> (String, usize) {
    let probe = "<script>const e = document.documentElement; e.dataset.wide = e.scrollWidth; \
                 e.dataset.words = document.body.innerText;</script></body>";
    let path = dir.join("probe.html");
    fs::write(&path, page.replace("</body>", probe)).unwrap();
    let size = format!("--window-size={width},900");
    let profile = format!("--user-data-dir={}", dir.join("profile").display());
    let address = format!("file://{}", path.display());
    let options =
        ["--headless", "--no-sandbox", "--disable-gpu", &size, &profile, "--dump-dom", &address];
    let output = Command::new("chromium").args(options).output().unwrap();
    let dom = String::from_utf8(output.stdout).unwrap();
    let of = |key: &str| {
        dom.split(&format!("{key}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    (unescaped(&of("data-words")), of("data-wide").parse().unwrap())
}

#[test]
fn a_browser_shows_it_in_both_languages_and_on_a_narrow_screen() {
    if !programs(&["chromium"]) {
        return;
    }
    let dir = scratch();
    let (page, _) = quantized(dir.path());
    let (english, wide) = in_browser(dir.path(), &page, 600);
    assert!(wide <= 600, "{wide}");
    assert!(english.contains("Loss by layer") && english.contains("top-1 is"), "{english}");
    assert!(!english.contains("各层损失"), "{english}");
    let other =
        page.replace("id=\"en\" checked", "id=\"en\"").replace("id=\"zh\"", "id=\"zh\" checked");
    let (chinese, _) = in_browser(dir.path(), &other, 600);
    assert!(chinese.contains("各层损失") && !chinese.contains("Loss by layer"), "{chinese}");
    // What is closed is not seen, and all that is seen has a number beside it in both.
    let numbers = |text: &str| text.chars().filter(char::is_ascii_digit).count();
    assert!(numbers(&english) > 1000 && numbers(&chinese) > 1000);
}

#[test]
fn a_network_of_a_hundred_layers_has_a_page_of_less_than_2_mb() {
    let [Some(float), Some(photos)] = ["models/mobilenet_v2.onnx", "imagenet/images"].map(shared)
    else {
        return;
    };
    let dir = scratch();
    let arguments = [
        "quantize",
        text(&float),
        "--calib",
        text(&photos),
        "--samples",
        "1",
        "--resize",
        "256",
        "--crop",
        "224",
        "--scale",
        "1/255",
        "--mean",
        ".485,.456,.406",
        "--std",
        ".229,.224,.225",
        "--effort",
        "0",
        "-o",
        "int8.onnx",
        "--report",
        "page.html",
        "--json",
    ];
    let facts = json(dir.path(), &arguments);
    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    has_the_numbers_of(&page, &facts["report"]);
    // Of one picture of eight.
    let picture = page.split("data:image/bmp").nth(1).unwrap().split('"').next().unwrap().len();
    assert!(page.len() + 7 * picture < 2_000_000, "{} bytes, a picture {picture}", page.len());
}
