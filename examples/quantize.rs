//! From a float network to a quantized file, and what that costs: `cargo run --example quantize`.

use std::path::Path;

use naive_ptq::{Dataset, Model, Preprocess, Quantizer, Result, Workers};

fn main() -> Result<()> {
    run(&std::env::temp_dir().join("naive_ptq_int8.onnx"))
}

/// Quantizes the bundled network into the file `int8`.
pub fn run(int8: &Path) -> Result<()> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/fashion"));
    let float = folder.join("float.onnx");
    let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
    let calib = Dataset::open(folder.join("calib.npz"), &preprocess)?;

    let summary = Quantizer::new(&float)?.calibrate(&calib.take(100))?.quantize()?.write(int8)?;
    println!("{}: {} bytes, from {}", int8.display(), summary.bytes, summary.float_bytes);

    let test = Dataset::open(folder.join("test.npz"), &preprocess)?.take(200);
    let (float, integer) = (Model::load(&float)?, Model::load(int8)?);
    let judged = integer.evaluate(Some(&float), &test, Workers::default())?;
    let percent = |share: Option<f64>| 100.0 * share.unwrap_or_default();
    println!(
        "top-1 {:.1} %, float {:.1} %; the same answer in {:.1} %",
        percent(judged.top1),
        percent(judged.reference_top1),
        percent(judged.agreement)
    );
    Ok(())
}
