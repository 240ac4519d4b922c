//! A quantized network as C for a microcontroller: `cargo run --example deploy`.

use std::path::Path;

use naive_ptq::data::update_folder;
use naive_ptq::emit::{C, Target, written_files};
use naive_ptq::{Dataset, Preprocess, Quantizer, Result};

fn main() -> Result<()> {
    run(&std::env::temp_dir().join("naive_ptq_c"))
}

/// Writes C99 with static memory to the folder `to`, over what is there.
pub fn run(to: &Path) -> Result<()> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/fashion"));
    let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
    let data = Dataset::open(folder.join("calib.npz"), &preprocess)?.take(50);
    let quantized = Quantizer::new(folder.join("float.onnx"))?.calibrate(&data)?.quantize()?;

    let files = C.files(&quantized.integer, "net", &[])?;
    update_folder(to, &files, &written_files(to))?;
    for (name, text) in &files {
        println!("{}: {} lines", to.join(name).display(), text.lines().count());
    }
    Ok(())
}
