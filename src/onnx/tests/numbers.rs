//! Numbers that are none, and limits in whatever form.

use super::*;
use crate::testing::quantize::prepare;

#[test]
fn constants_that_are_no_numbers_are_refused_by_name() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let weight = edited(conv(vec![]), |g| {
            g.initializer = vec![real("w", &[2, 2, 1, 1], &[1.0, bad, 1.0, 1.0])];
        });
        refused(&weight, &format!("in node \"y_node\" (Conv): constant \"w\" holds {bad}"));
        let bias = edited(conv(vec![]), |g| {
            g.initializer.push(real("b", &[2], &[1.0, bad]));
            g.node[0].input.push("b".into());
        });
        refused(&bias, &format!("in node \"y_node\" (Conv): constant \"b\" holds {bad}"));
        let sum = model(vec![node("Add", &["x", "c"], "y")], vec![real("c", &[], &[bad])]);
        refused(&sum, &format!("constant \"c\" holds {bad}"));
        let beside =
            |op| model(vec![node(op, &["x", "c"], "y")], vec![real("c", &[2, 1, 1], &[bad, 0.0])]);
        for op in ["Add", "Sub", "Mul"].into_iter().skip((bad == f32::NEG_INFINITY).into()) {
            refused(&beside(op), &format!("constant \"c\" holds {bad}"));
        }
        for name in ["s", "ws"] {
            let scale = edited(qdq(), |g| {
                g.initializer.iter_mut().filter(|t| t.name == name).for_each(|t| {
                    let count = t.dims.iter().product::<i64>() as usize;
                    t.raw_data = Some(bad.to_le_bytes().repeat(count).into());
                });
            });
            if scale != qdq() {
                refused(
                    &scale,
                    &format!("\"{name}\": scale must be positive and finite, got {bad}"),
                );
            }
        }
    }
}

/// What exporters add before a softmax: written as it is, chosen by a Where, or as a bias behind a product.
#[test]
fn masks_hide_what_they_are_added_to() {
    const INF: f32 = f32::INFINITY;
    let softmax = || node("Softmax", &["s"], "y").with(int("axis", 3));
    let add = || node("Add", &["x", "m"], "s");
    let condition = tensor("c", dt::BOOL, &[4], vec![0, 1, 1, 0]);
    let choice = vec![node("Where", &["c", "a", "b"], "m"), add(), softmax()];
    let choice = model(choice, vec![condition, real("a", &[], &[-INF]), real("b", &[], &[0.0])]);
    let written = |low| model(vec![add(), softmax()], vec![real("m", &[4], &[0.0, low, low, 0.0])]);
    let mut behind = conv(vec![]);
    graph(&mut behind).node[0].output[0] = "h".into();
    graph(&mut behind).initializer.push(real("m", &[2, 1, 1], &[-INF, 0.0]));
    graph(&mut behind).node.push(node("Add", &["h", "m"], "s"));
    graph(&mut behind).node.push(node("Softmax", &["s"], "y").with(int("axis", 1)));
    for (file, low) in [
        (written(-INF), "-inf"),
        (written(f32::MIN), "-3.4028235e38"),
        (choice, "-inf"),
        (behind, "-inf"),
    ] {
        let mut float = read(&file).unwrap();
        prepare(&mut float).unwrap();
        let x = crate::tensor::Tensor::new([1, 2, 4, 4], vec![0.25; 32]).unwrap();
        let executor = crate::testing::exec::float::FloatExecutor::new(&float);
        let y = executor.run(&[x], |_, _| Ok(())).unwrap();
        let hidden = y[0].data().iter().filter(|&&y| y == 0.0).count();
        assert!(hidden == 16 && y[0].data().iter().all(|&y| y == 0.0 || y >= 0.5), "{y:?}");
        // Where something else reads the sum, it has no codes.
        crate::testing::quantize::Quantizer::from_graph(float.clone()).map(|_| ()).unwrap();
        let sum = float.values.iter().position(|v| v.name == "s").unwrap();
        float.outputs.push(sum);
        let error = crate::testing::quantize::Quantizer::from_graph(float).map(|_| ()).unwrap_err();
        let expected = format!(
            "in node \"s_node\" (Add): unsupported: constant \"m\" holds {low}, as masks do"
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

/// Each number is finite, but not what follows from them.
#[test]
fn constants_that_become_no_numbers_are_refused_by_name() {
    let two = |name: &str, x: f32| real(name, &[2], &[x, 1.0]);
    let mut norm = conv(vec![]);
    graph(&mut norm).node[0].output[0] = "c".into();
    graph(&mut norm).node.push(node("BatchNormalization", &["c", "s", "b", "m", "v"], "y"));
    let constants = [two("s", 1.0), two("b", 0.0), two("m", 0.0), two("v", -1.0)];
    graph(&mut norm).initializer.extend(constants);
    let error = prepare(&mut read(&norm).unwrap()).unwrap_err().to_string();
    assert!(
        error.contains("in node \"y_node\" (Conv): constant \"y_node.folded_weight\" holds"),
        "{error}"
    );
    let overflow = vec![node("Mul", &["h", "h"], "i"), node("Add", &["x", "i"], "y")];
    let overflow = model(overflow, vec![real("h", &[], &[1e30])]);
    refused(&overflow, "in node \"y_node\" (Add): constant \"i\" holds inf");
}

#[test]
fn scales_that_are_no_sizes_of_a_step() {
    for (bad, expected) in [
        (0.0, "\"s\": scale must be positive and finite, got 0"),
        (-0.5, "\"s\": scale must be positive and finite, got -0.5"),
        (1e-42, "\"s\" holds 0.000000000000000000000000000000000000000001, which is too small"),
    ] {
        let scale = edited(qdq(), |g| {
            let s = g.initializer.iter_mut().find(|t| t.name == "s").unwrap();
            *s = real("s", &[], &[bad]);
        });
        refused(&scale, expected);
    }
    let zeros = edited(qdq(), |g| {
        let z = g.initializer.iter_mut().find(|t| t.name == "z").unwrap();
        *z = int8("z", &[3], &[3; 3]);
    });
    refused(&zeros, "3 zero points for 1 scales");
}

/// One of them, both or none; of any rank, of any type of number, infinite.
#[test]
fn limits_of_a_clip() {
    let clip = |inputs: &[&str], limits: Vec<TensorProto>| {
        let mut names = vec!["x"];
        names.extend(inputs);
        let graph = read(&model(vec![node("Clip", &names, "y")], limits)).unwrap();
        let again = import(&export(&graph), None).unwrap();
        assert_eq!(again.nodes, graph.nodes);
        match &graph.nodes[0].op {
            crate::ops::Op::Clip(clip) => (clip.lo, clip.hi),
            other => panic!("{other:?}"),
        }
    };
    const INF: f32 = f32::INFINITY;
    let six = || tensor("hi", dt::INT64, &[1, 1], 6i64.to_le_bytes().to_vec());
    assert_eq!(clip(&[], vec![]), (-INF, INF));
    assert_eq!(clip(&["", "hi"], vec![real("hi", &[], &[6.0])]), (-INF, 6.0));
    assert_eq!(clip(&["", "hi"], vec![six()]), (-INF, 6.0));
    assert_eq!(clip(&["lo"], vec![real("lo", &[1], &[-1.5])]), (-1.5, INF));
    assert_eq!(clip(&["lo", ""], vec![real("lo", &[1, 1, 1], &[-INF])]), (-INF, INF));
    let double = tensor("hi", dt::DOUBLE, &[], 2.5f64.to_le_bytes().to_vec());
    assert_eq!(clip(&["lo", "hi"], vec![real("lo", &[], &[-INF]), double]), (-INF, 2.5));
    let low = model(vec![node("Clip", &["x", "lo"], "y")], vec![real("lo", &[], &[f32::NAN])]);
    refused(&low, "limits NaN and inf");
}
