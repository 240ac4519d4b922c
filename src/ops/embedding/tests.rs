use super::*;
use crate::ops::Op;
use crate::quant::Integer;
use crate::testing::exec::engine::{Engine, Options};
use crate::testing::exec::int::IntExecutor;
use crate::testing::graph::Graph;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// Rows of a table of shape `[rows, 3]` at given indices.
fn network(rows: usize) -> Graph {
    let mut net = Net::new(5);
    let x = net.integers(&[1, 7], Integer::I64);
    net.graph.values[x].given.as_mut().unwrap().highest = rows as i32 - 1;
    let table = net.random(&[rows, 3]);
    let y = net.node(Op::Embedding(Embedding), &[x, table]);
    net.finish(&[y])
}

#[test]
fn rows_are_those_of_the_table_to_half_a_step() {
    for rows in [1, 2, 300, 65536] {
        let float = network(rows);
        let mut inputs = random_inputs(&float, &mut Rng(1), 1.0);
        inputs[0].data_mut()[0] = rows as f32 - 1.0;
        let (real, ranges) = run_float(&float, &inputs);
        let table = float.values[1].to_real().unwrap();
        for (n, &x) in inputs[0].data().iter().enumerate() {
            assert_eq!(real[0].data()[3 * n..][..3], table.data()[3 * x as usize..][..3]);
        }
        for scheme in SCHEMES {
            let graph = quantize(&float, &ranges, scheme).unwrap();
            let step = graph.values[graph.outputs[0]].quant.as_ref().unwrap().scale[0];
            let int = lower(&graph).unwrap();
            let y = IntExecutor::new(&int).run(&inputs).unwrap();
            for (a, b) in real[0].data().iter().zip(y[0].data()) {
                assert!((a - b).abs() <= step * 0.5001, "{rows} {scheme:?}: {a} {b}");
            }
            let engine = Engine::new(&int, Options::default()).unwrap();
            let of_engine = engine.run(&mut engine.session().unwrap(), &inputs).unwrap();
            assert_eq!(of_engine, y);
        }
    }
}

#[test]
fn an_index_outside_the_table_is_refused_by_name() {
    let float = network(10);
    let inputs = random_inputs(&float, &mut Rng(1), 1.0);
    let (_, ranges) = run_float(&float, &inputs);
    let int = lower(&quantize(&float, &ranges, SCHEMES[3]).unwrap()).unwrap();
    for bad in [10.0, -1.0, 0.5] {
        let mut inputs = inputs.clone();
        inputs[0].data_mut()[2] = bad;
        let expected = format!("input \"v0\" holds {bad}, expected an integer of 0..9");
        assert_eq!(refused(IntExecutor::new(&int).run(&inputs)), expected);
    }
}

/// On a device nothing is refused: there the last row is read, and no memory beside the table.
#[test]
fn beyond_the_last_row_is_the_last_row() {
    let p = int::Params { table: &[1i8, 2, 3, 4], row: 2, x_zero_point: -128 };
    let mut y = [0; 8];
    int::embedding(&[-128i8, -127, -126, 127], &p, &mut y);
    assert_eq!(y, [1, 2, 3, 4, 3, 4, 3, 4]);
    let p = int::Params { table: &[1i16, 2], row: 1, x_zero_point: 5 };
    let mut y = [0; 2];
    int::embedding(&[4i8, 6], &p, &mut y);
    assert_eq!(y, [1, 2]);
}

#[test]
fn more_rows_than_indices_are_refused() {
    let error = refused(Embedding.infer_shape(&[&[1, 2], &[65537, 3]]));
    assert!(error.contains("only 1 to 65536 rows are known"), "{error}");
    assert_eq!(Embedding.infer_shape(&[&[1, 2], &[9, 3, 4]]).unwrap(), [1, 2, 3, 4]);
}
