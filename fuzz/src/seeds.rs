//! What fuzzing begins with: good files of each kind.

use std::path::Path;
use std::sync::Arc;

use naive_ptq::calibrate::Observer;
use naive_ptq::data::npy::write_npy;
use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::graph::Graph;
use naive_ptq::quantize::prepare;
use naive_ptq::{Tensor, onnx};

use crate::conv::{self, Options};
use crate::network;
use crate::rng::Rng;
use naive_ptq::naive_conv::Geometry;

/// Names and contents.
pub type Files = Vec<(String, Vec<u8>)>;

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = |path: &str| contents(&root.join(path)).into_iter();
    let folder = |path: &str| files(path).map(|(_, content)| content);
    let golden = |extension: &'static str| {
        let files = files("../tests/golden").filter(move |(name, _)| name.ends_with(extension));
        files.map(|(_, content)| content)
    };
    match target {
        "onnx" => {
            let made = (0..8).map(network::model).chain([network::float()]);
            folder("seeds/onnx").chain(golden(".onnx")).chain(made).collect()
        }
        "npy" => golden(".npy").take(3).chain([write_npy(&numbers())]).collect(),
        "npz" => folder("seeds/npz").collect(),
        "images" => {
            let images = folder("seeds/images");
            images.flat_map(|image| [0, 3, 0x7f].map(|how| [&image[..], &[how]].concat())).collect()
        }
        "stats" => vec![statistics().into_bytes()],
        "dumps" => (0..4).map(|which| vec![which]).collect(),
        _ => (0..8u64).map(|seed| seed.to_le_bytes().to_vec()).collect(),
    }
}

/// The files of a folder, in the order of their names.
fn contents(folder: &Path) -> Files {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file"));
    let mut paths: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read = |path: &std::path::PathBuf| (name(path), std::fs::read(path).expect("a file"));
    paths.iter().map(read).collect()
}

fn numbers() -> Tensor<f32> {
    let mut rng = Rng(1);
    Tensor::new([2, 3, 4], (0..24).map(|_| rng.unit()).collect()).expect("24 numbers")
}

/// The float network whose statistics are fuzzed.
pub fn float_graph() -> Graph {
    let mut graph = onnx::import(&network::float(), None).expect("a network");
    prepare(&mut graph).expect("a float network");
    graph
}

fn statistics() -> String {
    let graph = Arc::new(float_graph());
    let mut observer = Observer::new(&graph);
    let float = FloatExecutor::new(graph.clone());
    let mut rng = Rng(2);
    for _ in 0..3 {
        let x = crate::inputs(graph.inputs.iter().map(|&v| &*graph.values[v].shape), &mut rng);
        float.run(&x, |v, tensor| observer.see(v, tensor)).expect("a run");
    }
    observer.to_json(&graph)
}

/// Dumps of the tutorial, of different shapes.
pub fn dumps() -> Vec<Files> {
    let geometry =
        Geometry { in_ch: 2, out_ch: 3, height: 4, width: 5, ..Options::default().geometry };
    let small = Options { geometry, samples: 2, ..Options::default() };
    let geometry = Geometry { kernel: [3, 3], pad: 1, stride: 2, ..geometry };
    let wide = Options { geometry, bits: 16, ..small };
    let dump = |options: &Options| {
        let folder = crate::scratch();
        conv::dump(options, folder.path()).expect("a dump");
        contents(folder.path())
    };
    [small, wide].iter().map(dump).collect()
}
