//! The integer engine: plan once, then run, from as many threads as there are sessions:
//! `cargo run --example run_engine`.

use std::path::Path;

use naive_ptq::exec::engine::{Engine, Options};
use naive_ptq::{Dataset, Preprocess, Quantizer, Result};

fn main() -> Result<()> {
    run()
}

/// Runs the bundled network, quantized here, on ten samples.
pub fn run() -> Result<()> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/fashion"));
    let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
    let data = Dataset::open(folder.join("test.npz"), &preprocess)?.take(10);
    // From a file, the network would come by `Model::load`.
    let quantized = Quantizer::new(folder.join("float.onnx"))?.calibrate(&data)?.quantize()?;

    let engine = Engine::new(&quantized.integer, Options::default())?;
    let mut session = engine.session()?;
    for i in 0..data.len() {
        let outputs = engine.run(&mut session, &[data.sample(i)?])?;
        let scores = outputs[0].data();
        let class = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        println!("sample {i}: class {class:?}, labelled {:?}", data.label(i));
    }
    Ok(())
}
