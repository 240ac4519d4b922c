use super::*;
use crate::exec::int::IntExecutor;
use crate::lower::lower;
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::conv::Conv;
use crate::ops::{Op, Window};
use crate::quant::Width;
use crate::quantize::quantize;
use crate::testing::{Net, Rng, SCHEMES, random_inputs, run_float};

/// A candidate with one bit of one code turned over: in a layer, or behind the layers in an output.
struct Flipped {
    inner: Box<dyn Candidate>,
    sample: usize,
    place: Place,
    index: usize,
    bit: u32,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Layer(usize),
    Output(usize),
}

impl Candidate for Flipped {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn family(&self) -> String {
        self.inner.family()
    }

    fn threads(&self) -> usize {
        self.inner.threads()
    }

    fn start(&self) -> Outcome<Runner<'_>> {
        let mut run = self.inner.start()?;
        Ok(Box::new(move |sample| {
            let mut trace = run(sample)?;
            if sample.inputs == inputs(self.sample) {
                let flip = 1 << self.bit;
                match self.place {
                    Place::Layer(i) => match trace.layers.get_mut(i) {
                        Some(Codes::I8(codes)) => codes[self.index] ^= flip as i8,
                        Some(Codes::I16(codes)) => codes[self.index] ^= flip as i16,
                        None => {}
                    },
                    Place::Output(i) => trace.outputs[i].data_mut()[self.index] ^= flip,
                }
            }
            Ok(trace)
        }))
    }
}

/// Two layers side by side and two behind them, and two outputs.
fn network() -> crate::graph::Graph {
    let mut net = Net::new(5);
    let x = net.input(&[1, 2, 5, 4]);
    let weight = net.random(&[2, 2, 3, 3]);
    let window = Window { pads: [1; 4], ..Window::new([3, 3]) };
    let a = net.node(Op::Conv(Conv { window, group: 1 }), &[x, weight]);
    let b = net.node(Op::Clip(Clip { lo: -0.5, hi: 0.5 }), &[x]);
    let sum = net.node(Op::Add(Add { subtract: false }), &[a, b]);
    let y = net.node(Op::Clip(Clip { lo: -0.1, hi: 0.7 }), &[sum]);
    net.finish(&[y, sum])
}

fn inputs(i: usize) -> Vec<Tensor<f32>> {
    random_inputs(&network(), &mut Rng(i as u64 + 1), 1.0)
}

/// All that `verify` has without compilers, for 8 bits or for 16; and the network.
fn candidates(scheme: usize) -> (IntGraph, Vec<Box<dyn Candidate>>) {
    let float = network();
    let (_, ranges) = run_float(&float, &inputs(0));
    let graph = lower(&quantize(&float, &ranges, SCHEMES[scheme]).unwrap()).unwrap();
    let mut all: Vec<Box<dyn Candidate>> = vec![Box::new(Reference(IntExecutor::new(&graph)))];
    for engine in InEngine::all(&graph, &[1, 2]).unwrap() {
        all.push(Box::new(engine));
    }
    (graph, all)
}

fn compared(graph: &IntGraph, all: &[Box<dyn Candidate>], layers: bool) -> Comparison {
    let how = How { layers, threads: 2 };
    let done = std::cell::Cell::new(0);
    let comparison =
        compare(graph, all, 5, |i| Ok(inputs(i)), how, || done.set(done.get() + 1)).unwrap();
    assert_eq!(done.get(), comparison.equal_samples);
    comparison
}

#[test]
fn what_was_compared_is_said() {
    let isas: Vec<Isa> = Isa::ALL.into_iter().rev().filter(|isa| isa.is_available()).collect();
    for scheme in 0..SCHEMES.len() {
        let (graph, all) = candidates(scheme);
        let comparison = compared(&graph, &all, true);
        let engine = format!("engine ({}; 1, 2 threads)", listed(&isas));
        assert_eq!(comparison.to_string(), format!("reference = {engine} on 5 of 5 samples"));
        assert_eq!(comparison.candidates.len(), 1 + 2 * isas.len());
        assert!(comparison.equal && comparison.notes.is_empty() && comparison.layers);
    }
}

/// One bit of one code of one layer, in turn in each of the candidates: it is named, and so is the layer.
#[test]
fn each_flipped_bit_is_found() {
    let mut rng = Rng(1);
    let schemes = [
        0,
        (0..SCHEMES.len()).find(|&scheme| candidates(scheme).0.widest() == Width::W16).unwrap(),
    ];
    for scheme in schemes {
        let (graph, all) = candidates(scheme);
        let (count, layers) = (all.len(), graph.nodes.len());
        let places = (0..layers).map(Place::Layer).chain([0, 1].map(Place::Output));
        for (odd, place) in (0..count).flat_map(|i| places.clone().map(move |place| (i, place))) {
            let mut all = candidates(scheme).1;
            let v = match place {
                Place::Layer(i) => graph.nodes[i].output,
                Place::Output(i) => graph.outputs[i],
            };
            let value = &graph.values[v];
            let places: Vec<usize> = (0..value.len()).collect();
            let bits: Vec<u32> = (0..value.quant.width.bits()).collect();
            let sample = rng.pick(&[0, 1, 2, 3, 4]);
            let (index, bit) = (rng.pick(&places), rng.pick(&bits));
            let inner = all.remove(odd);
            let name = inner.name();
            all.insert(odd, Box::new(Flipped { inner, sample, place, index, bit }));
            let comparison = compared(&graph, &all, true);
            let what = format!("{name}, {place:?}: {comparison}");
            let found = comparison.difference.clone().unwrap_or_else(|| panic!("{what}"));
            assert!(!comparison.equal, "{what}");
            let node = graph.nodes.iter().find(|node| node.output == v).unwrap();
            assert_eq!(found.layer.as_ref(), Some(&node.origin), "{what}");
            assert_eq!((found.sample, found.index), (sample, index), "{what}");
            assert_eq!((&found.tensor, comparison.equal_samples), (&value.name, sample), "{what}");
            // Of two, either may be the odd one.
            assert_eq!(found.opinions.len(), 2, "{what}");
            match count {
                2 => assert!(
                    found.opinions.iter().any(|o| o.of == std::slice::from_ref(&name)),
                    "{what}"
                ),
                _ => assert_eq!(found.opinions[0].of, std::slice::from_ref(&name), "{what}"),
            }
            let by = found.opinions.iter().map(|o| o.of.len()).sum::<usize>();
            assert_eq!(by, count, "{what}");
            let text = comparison.to_string();
            let start = format!("sample {sample}: layer \"{}\": ", printable(&node.name));
            assert!(text.starts_with(&start) && text.contains(&format!("in {name}")), "{text}");
            // A layer is seen only where layers are looked at, an output always.
            let of_outputs = compared(&graph, &all, false);
            assert_eq!(of_outputs.equal, matches!(place, Place::Layer(_)), "{what}");
        }
    }
}

#[test]
fn a_candidate_that_fails_is_named() {
    struct Broken(bool);
    impl Candidate for Broken {
        fn name(&self) -> String {
            "broken".into()
        }

        fn start(&self) -> Outcome<Runner<'_>> {
            match self.0 {
                true => Err("no disk".into()),
                false => Ok(Box::new(|_| Ok(Trace::default()))),
            }
        }
    }
    let how = How { layers: false, threads: 1 };
    for (broken, expected) in [
        (true, "target broken: no disk"),
        (false, "sample 0: target broken: gives other tensors than the network has"),
    ] {
        let (graph, mut all) = candidates(0);
        all.push(Box::new(Broken(broken)));
        let error = compare(&graph, &all, 1, |i| Ok(inputs(i)), how, || ()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let (graph, all) = candidates(0);
    let other = |_| Ok(vec![Tensor::from_vec(vec![1.0])]);
    let error = compare(&graph, &all, 1, other, how, || ()).unwrap_err().to_string();
    assert!(error.starts_with("sample 0: input \"v0\" has shape"), "{error}");
}
