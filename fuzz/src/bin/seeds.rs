//! Writes the seeds of each target into `corpus/`, where libFuzzer begins: `seeds TARGET…`.

fn main() -> std::io::Result<()> {
    for target in std::env::args().skip(1) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(&target);
        std::fs::create_dir_all(&folder)?;
        for (i, seed) in naive_ptq_fuzz::seeds::of(&target).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{i}")), seed)?;
        }
    }
    Ok(())
}
