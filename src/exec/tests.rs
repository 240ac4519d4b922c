use super::*;
use crate::graph::Graph;
use crate::lower::lower;
use crate::ops::Op;
use crate::ops::Window;
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::conv::Conv;
use crate::testing::quantize::quantize;
use crate::testing::{Net, Rng, SCHEMES, random_inputs, refused, run_float};

/// A convolution whose result is used again, and is an output too; two inputs.
fn network() -> Graph {
    let mut net = Net::new(2);
    let (a, b) = (net.input(&[1, 3, 4, 4]), net.input(&[5, 1, 1]));
    let weight = net.random(&[5, 3, 2, 2]);
    let y = net.node(Op::Conv(Conv { window: Window::new([2, 2]), group: 1 }), &[a, weight]);
    let sum = net.node(Op::Add(Add { subtract: false }), &[y, b]);
    let clipped = net.node(Op::Clip(Clip::RELU), &[sum]);
    net.finish(&[clipped, y])
}

#[test]
fn both_executors_show_every_value_once_and_agree() {
    let float = network();
    let inputs = random_inputs(&float, &mut Rng(3), 1.0);
    let (expected, ranges) = run_float(&float, &inputs);
    let mut seen = Vec::new();
    let observe = |v, _: &_| {
        seen.push(v);
        Ok(())
    };
    float::FloatExecutor::new(&float).run(&inputs, observe).unwrap();
    assert_eq!(seen, float.activations().collect::<Vec<_>>());

    let int = lower(&quantize(&float, &ranges, SCHEMES[3]).unwrap()).unwrap();
    let executor = int::IntExecutor::new(&int);
    let mut seen = Vec::new();
    let codes = executor.run_codes(&inputs, |v, codes| {
        let value = &int.values[v];
        assert_eq!(codes.len(), value.len());
        seen.push((v, value.to_onnx_order(codes)?));
        Ok(())
    });
    let codes = codes.unwrap();
    let order = int.inputs.iter().copied().chain(int.nodes.iter().map(|n| n.output));
    assert!(seen.iter().map(|(v, _)| *v).eq(order));
    let last = |v| &seen.iter().find(|(seen, _)| *seen == v).unwrap().1;
    let real = executor.run(&inputs).unwrap();
    for (i, &v) in int.outputs.iter().enumerate() {
        assert_eq!(codes[i], *last(v));
        let quant = &int.values[v].quant;
        assert_eq!(real[i], codes[i].map(|&code| quant.dequantize(code, 0)));
        for (a, b) in real[i].data().iter().zip(expected[i].data()) {
            assert!((a - b).abs() <= 4.0 * quant.scale[0], "{a} for {b}");
        }
    }
}

#[test]
fn an_observer_can_stop_the_run() {
    let float = network();
    let inputs = random_inputs(&float, &mut Rng(3), 1.0);
    let (_, ranges) = run_float(&float, &inputs);
    let stop = |v| if v == 3 { bail!(Invalid, "enough") } else { Ok(()) };
    assert_eq!(refused(float::FloatExecutor::new(&float).run(&inputs, |v, _| stop(v))), "enough");
    let int = lower(&quantize(&float, &ranges, SCHEMES[0]).unwrap()).unwrap();
    assert_eq!(refused(int::IntExecutor::new(&int).run_codes(&inputs, |v, _| stop(v))), "enough");
}

/// A network may give back what it was given, and what it was built with.
#[test]
fn inputs_and_constants_can_be_outputs() {
    let mut net = Net::new(0);
    let (x, c) = (net.input(&[3]), net.random(&[2]));
    let graph = net.finish(&[x, c]);
    let inputs = random_inputs(&graph, &mut Rng(3), 1.0);
    let (outputs, _) = run_float(&graph, &inputs);
    assert_eq!(outputs, [inputs[0].clone(), graph.real_constant(c).unwrap().clone()]);
}

/// A tensor that is changed on its way is what the rest of the network sees; a run that starts at a value
/// gives the bits of a whole one.
#[test]
fn a_counterfactual_run_is_a_closure() {
    let graph = network();
    let inputs = random_inputs(&graph, &mut Rng(3), 1.0);
    let executor = float::FloatExecutor::new(&graph);
    let trace = executor.trace(&inputs).unwrap();
    for changed in graph.activations() {
        let mut seen = Vec::new();
        let double = |v: usize, x: &mut Tensor<f32>| {
            if v == changed {
                x.data_mut().iter_mut().for_each(|x| *x *= 2.0);
            }
            seen.push((v, x.clone()));
            Ok(())
        };
        let whole = executor.run_with(&inputs, double).unwrap();
        assert_ne!(whole, executor.run(&inputs, |_, _| Ok(())).unwrap());
        let all = std::mem::take(&mut seen);
        let double = |v: usize, x: &mut Tensor<f32>| {
            if v == changed {
                x.data_mut().iter_mut().for_each(|x| *x *= 2.0);
            }
            seen.push((v, x.clone()));
            Ok(())
        };
        assert_eq!(executor.run_from(changed, &trace, double).unwrap(), whole);
        let differs = |(v, x): &&(usize, Tensor<f32>)| trace[*v].as_ref() != Some(x);
        assert!(all.iter().filter(differs).eq(&seen), "{changed}");
    }
    let message = refused(executor.run_from(9, &trace, |_, _| Ok(())));
    assert_eq!(message, "the trace of a run does not hold value 9");
}
