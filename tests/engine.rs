//! The engine has a kernel for every node of the networks that the documents measure.
#![allow(clippy::unwrap_used)]

mod tools;

use naive_ptq::exec::engine::{Engine, Options};
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::lower::lower;
use naive_ptq::quant::{Preset, Scheme, Width};
use tools::{fashion, observe, prepared, pseudo_random, quantized, shared};

/// The networks of docs/accuracy.md.
const NETWORKS: [&str; 7] = [
    "mlperf_tiny/ic_resnet8.onnx",
    "mlperf_tiny/kws_dscnn.onnx",
    "mlperf_tiny/vww_mobilenetv1.onnx",
    "mlperf_tiny/ad_autoencoder.onnx",
    "models/resnet20_cifar10.onnx",
    "models/mobilenet_v2.onnx",
    "models/efficientnet_lite0.onnx",
];

/// Of activations and weights.
const WIDTHS: [[Width; 2]; 5] = [
    [Width::W8, Width::W8],
    [Width::W16, Width::W8],
    [Width::W16, Width::W4],
    [Width::W8, Width::W16],
    [Width::W16, Width::W16],
];

#[test]
fn no_node_runs_on_the_path_of_the_reference() {
    let bundled = std::iter::once(fashion("float.onnx"));
    for path in bundled.chain(NETWORKS.iter().filter_map(|network| shared(network))) {
        let graph = prepared(&path);
        let shapes = graph.inputs.iter().map(|&v| graph.values[v].shape.clone());
        let [x] = &shapes.map(|shape| pseudo_random(&shape, 1)).collect::<Vec<_>>()[..] else {
            panic!("{} has several inputs", path.display());
        };
        let seen = observe(&graph, std::slice::from_ref(x));
        for widths @ [activations, weights] in WIDTHS {
            let scheme = Scheme::new(Preset::Scale).with_widths(activations, weights);
            let integer = lower(&quantized(&graph, &seen, scheme)).unwrap();
            let what = format!("{}, {widths:?}", path.display());
            let engine = Engine::new(&integer, Options::default()).unwrap();
            for layer in engine.layers() {
                assert!(layer.path != "reference" && layer.failed.is_none(), "{what}: {layer:?}");
                let sums = ["Conv", "Linear"].contains(&layer.operator);
                assert!(!sums || layer.macs > 0, "{what}: {layer:?}");
            }
            // The reference takes its time.
            if engine.layers().map(|layer| layer.macs).sum::<u64>() < 15_000_000 {
                let x = std::slice::from_ref(x);
                let expected = IntExecutor::new(&integer).run_codes(x, |_, _| Ok(())).unwrap();
                let got = engine.run_codes(&mut engine.session().unwrap(), x).unwrap();
                assert_eq!(got, expected, "{what}");
            }
        }
    }
}
