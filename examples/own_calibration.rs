//! Calibration data of one's own, spread over two machines: `cargo run --example own_calibration`.

use std::path::Path;

use naive_ptq::calibrate::{Calibrator, Observer};
use naive_ptq::quant::{Preset, Scheme};
use naive_ptq::{Quantizer, Result, Samples, Tensor};

/// Samples that are made when they are asked for; they could come from a camera or a data base.
struct Stripes(usize);

impl Samples for Stripes {
    fn len(&self) -> usize {
        self.0
    }

    fn get(&self, i: usize) -> Result<Vec<Tensor<f32>>> {
        let pixel = |p: usize| ((p % 28 + p / 28 * i) % 17) as f32 / 16.0;
        Ok(vec![Tensor::new([1, 1, 28, 28], (0..28 * 28).map(pixel).collect())?])
    }
}

fn main() -> Result<()> {
    run()
}

/// Quantizes the bundled network to power-of-two scales.
pub fn run() -> Result<()> {
    let float = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/fashion/float.onnx"));
    let there = Quantizer::new(float)?.calibrate(&Stripes(20))?;
    let statistics: String = there.observer().to_json(there.graph());

    let here = Quantizer::new(float)?
        .scheme(Scheme::new(Preset::Shift).per_tensor())
        .calibrator(Calibrator::Entropy)
        .calibrate(&Stripes(10))?;
    let seen = Observer::from_json(&statistics, here.graph())?;
    let quantized = here.merge(seen).quantize()?;
    println!("{} samples, {} nodes", quantized.samples, quantized.integer.nodes.len());
    for report in &quantized.steps {
        let changes = report.changes.len();
        println!("{}: {changes} tensors, by at most {:.2e}", report.step, report.largest());
    }
    Ok(())
}
