use super::*;
use crate::ops::Op;
use crate::testing::*;

#[test]
fn equals_the_definition() {
    for (seed, shape) in [&[2, 3][..], &[1, 17, 2], &[2, 3, 4, 5], &[1, 1, 1, 1]].iter().enumerate()
    {
        let (mut rng, channels) = (Rng(seed as u64), [shape[1]]);
        let x = rng.reals(shape, 3.0);
        let [scale, bias, mean] = [(); 3].map(|_| rng.reals(&channels, 2.0));
        // From subnormal to large.
        let variance =
            Tensor::from_vec((0..channels[0]).map(|c| [1e-40, 1e-3, 50.0][c % 3]).collect());
        let op = BatchNorm { epsilon: 1e-5 };
        let inputs = [&x, &scale, &bias, &mean, &variance];
        let y = op.eval_f32(&inputs);
        assert_eq!(y.shape(), op.infer_shape(&inputs.map(Tensor::shape)).unwrap());
        let expected = tabulate(shape, |position| {
            let of = |t: &Tensor<f32>| at(t, &position[1..2]) as f64;
            let deviation = (of(&variance) + 1e-5f32 as f64).sqrt();
            (at(&x, position) as f64 - of(&mean)) / deviation * of(&scale) + of(&bias)
        });
        for (&y, &expected) in y.data().iter().zip(expected.data()) {
            let error = (y as f64 - expected).abs();
            assert!(error <= 1e-6 * expected.abs().max(1e-3), "{y} for {expected}, seed {seed}");
        }
    }
}

#[test]
fn import_and_export() {
    let shapes = [&[1, 3, 2, 2][..], &[3], &[3], &[3], &[3]];
    let node = |opset, name: &str, value| {
        let mut node = onnx_node("BatchNormalization", &shapes, &[(name, value)]);
        node.opset = opset;
        node
    };
    check_refusals([
        (node(15, "training_mode", Attribute::Int(1)), "training_mode"),
        (node(7, "spatial", Attribute::Int(0)), "spatial"),
        (node(15, "epsilon", Attribute::Int(0)), "epsilon"),
    ]);
    let mut imported = node(15, "momentum", Attribute::Float(0.9));
    assert_eq!(BatchNorm::import(&mut imported).unwrap(), BatchNorm { epsilon: 1e-5 });
    assert!(imported.attributes.is_empty());
    let op = Op::BatchNorm(BatchNorm { epsilon: 1e-3 });
    let mut exported = op.export(&shapes, 13);
    assert_eq!(Op::import(&mut exported).unwrap().unwrap(), op);
    for (shapes, expected) in [
        (&shapes[..4], "expected 5 inputs, got 4"),
        (&[&[3][..], &[3], &[3], &[3], &[3]], "expected an input of [n, c, ..]"),
        (&[&[1, 3][..], &[3], &[3], &[4], &[3]], "expected parameters of shape [3], got [4]"),
    ] {
        assert!(refused(op.infer_shape(shapes)).contains(expected), "{shapes:?}");
    }
}
