//! Constants that hold more or less than they say, or lie elsewhere.

use super::*;

#[test]
fn raw_data_of_another_length() {
    for (bytes, text) in
        [(15, "15 bytes, expected 16"), (17, "17 bytes, expected 16"), (0, "0 bytes, ")]
    {
        let weight = tensor("w", dt::FLOAT, &[2, 2, 1, 1], vec![0; bytes]);
        let model = edited(conv(vec![]), |g| g.initializer = vec![weight]);
        refused(&model, &format!("tensor \"w\" of shape [2, 2, 1, 1] holds {text}"));
    }
    let none = TensorProto { raw_data: None, ..real("w", &[2, 2, 1, 1], &[]) };
    let model = edited(conv(vec![]), |g| g.initializer = vec![none]);
    refused(&model, "tensor \"w\" of shape [2, 2, 1, 1] holds 0 elements, expected 4");
}

/// A convolution whose weight lies where the entries say.
fn with(location: i32, entries: &[(&str, &str)]) -> ModelProto {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: key.into(),
        value: value.into(),
    };
    let weight = TensorProto {
        raw_data: None,
        data_location: location,
        external_data: entries.iter().map(entry).collect(),
        ..real("w", &[2, 2, 1, 1], &[])
    };
    edited(conv(vec![]), |g| g.initializer = vec![weight])
}

#[test]
fn external_data_without_a_folder() {
    refused(
        &with(1, &[("location", "w.bin")]),
        "the external data of tensor \"w\": there is no folder",
    );
    refused(&with(2, &[]), "tensor \"w\" has data location 2");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.bin"), [0; 16]).unwrap();
    let read =
        |entries: &[(&str, &str)]| import(&with(1, entries).encode_to_vec(), Some(dir.path()));
    read(&[("location", "./w.bin"), ("offset", "0"), ("length", "16")]).unwrap();
    for (key, text, expected) in [
        ("length", "15", "length 15, expected 16"),
        ("length", "18446744073709551615", "expected 16"),
        ("offset", "x", "offset is not a number"),
        ("offset", "-1", "offset is not a number"),
        ("offset", "1", "16 bytes at 1 of \"w.bin\", which has 16"),
        ("offset", "18446744073709551615", "w.bin"),
        ("checksum", "00", "unsupported: a checksum"),
        ("format", "x", "key \"format\""),
        ("location", "w.bin", "location is given twice"),
    ] {
        let error = read(&[("location", "w.bin"), (key, text)]).unwrap_err().to_string();
        assert!(error.contains("\"w\"") && error.contains(expected), "{key} {text}: {error}");
    }
    for location in ["../w.bin", "a/../../w.bin", "/etc/passwd", "", ".", "missing"] {
        assert!(read(&[("location", location)]).is_err(), "{location}");
    }
}

/// What an unpacked archive can hold: links out of the folder, and what never ends.
#[cfg(unix)]
#[test]
fn external_data_stays_in_the_folder() {
    use std::os::unix::fs::symlink;

    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("model");
    std::fs::create_dir_all(dir.join("inner")).unwrap();
    std::fs::write(outer.path().join("secret.bin"), [0; 16]).unwrap();
    std::fs::write(dir.join("w.bin"), [0; 16]).unwrap();
    symlink("../secret.bin", dir.join("link.bin")).unwrap();
    symlink("..", dir.join("up")).unwrap();
    symlink("/dev", dir.join("inner/dev")).unwrap();
    symlink("../w.bin", dir.join("inner/w.bin")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(dir.join("fifo")).status();
    let read = |location: &str| {
        import(&with(1, &[("location", location)]).encode_to_vec(), Some(&dir)).map(drop)
    };
    read("w.bin").unwrap();
    read("inner/w.bin").unwrap();
    for (location, expected) in [
        ("link.bin", "lies outside the model's folder"),
        ("up/secret.bin", "lies outside the model's folder"),
        ("inner/dev/zero", "lies outside the model's folder"),
        ("../secret.bin", "\"../secret.bin\" lies outside the model's folder"),
        ("inner", "is not a regular file"),
        ("fifo", if made.is_ok_and(|s| s.success()) { "is not a regular file" } else { "fifo" }),
        ("missing", "\"missing\": "),
    ] {
        let error = read(location).unwrap_err().to_string();
        assert!(error.starts_with("the external data of tensor \"w\": "), "{error}");
        assert!(error.contains(expected), "{location}: {error}");
    }
    // The folder itself may be reached through a link.
    let link = outer.path().join("link");
    symlink("model", &link).unwrap();
    import(&with(1, &[("location", "w.bin")]).encode_to_vec(), Some(&link)).unwrap();
}

/// A file is read as often as two tensors that share it need, not as often as a model likes.
#[test]
fn one_file_named_by_many_tensors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.bin"), [0; 16]).unwrap();
    let read = |count: usize| {
        let mut model = with(1, &[("location", "w.bin")]);
        let weight = graph(&mut model).initializer[0].clone();
        let more = (1..count).map(|i| TensorProto { name: format!("w{i}"), ..weight.clone() });
        graph(&mut model).initializer.extend(more);
        import(&model.encode_to_vec(), Some(dir.path()))
    };
    read(2).unwrap();
    let error = read(3).unwrap_err().to_string();
    assert!(error.contains("tensor \"w2\": the model asks for \"w.bin\" too often"), "{error}");
    // A file that takes no room on the disk is not read beyond what a network has.
    std::fs::File::create(dir.path().join("w.bin")).unwrap().set_len(1 << 40).unwrap();
    let mut model = with(1, &[("location", "w.bin")]);
    graph(&mut model).initializer[0].dims = vec![1 << 38];
    let error = import(&model.encode_to_vec(), Some(dir.path())).unwrap_err().to_string();
    assert!(error.contains("too often"), "{error}");
}

/// Numbers of 16 bits are numbers: in constants, scales, inputs and casts.
#[test]
fn numbers_of_16_bits() {
    let halves: [(u16, f32); 8] = [
        (0x3C00, 1.0),
        (0xC248, -3.140625),
        (0x7BFF, 65504.0),
        (0x0400, f32::exp2(-14.0)),
        (0x0001, f32::exp2(-24.0)),
        (0x83FF, -1023.0 * f32::exp2(-24.0)),
        (0x8000, -0.0),
        (0x2E66, 0.099_975_586),
    ];
    let brains = [(0x3F80, 1.0), (0xC049, -3.140625), (0x0001, f32::from_bits(0x1_0000))];
    for (data_type, numbers) in [(dt::FLOAT16, &halves[..]), (dt::BFLOAT16, &brains)] {
        let dims = [numbers.len() as i64];
        let raw =
            tensor("c", data_type, &dims, numbers.iter().flat_map(|n| n.0.to_le_bytes()).collect());
        let int32_data = numbers.iter().map(|n| n.0.into()).collect();
        let listed = TensorProto { int32_data, raw_data: None, ..raw.clone() };
        for constant in [raw, listed] {
            let nodes =
                vec![node("Cast", &["c"], "r").with(int("to", 1)), node("Add", &["x", "r"], "y")];
            let mut model =
                edited(model(nodes, vec![constant]), |g| g.input = vec![value("x", &dims)]);
            let input = graph(&mut model).input[0].r#type.as_mut().unwrap();
            input.tensor_type.as_mut().unwrap().elem_type = data_type;
            let read = read(&model).unwrap();
            let Some(Constant::Real(t)) = &read.values[read.nodes[0].inputs[1]].constant else {
                panic!("not real")
            };
            let bits = |x: f32| x.to_bits();
            assert!(t.data().iter().zip(numbers).all(|(&t, n)| bits(t) == bits(n.1)), "{t:?}");
        }
        let wide = TensorProto {
            int32_data: vec![1 << 16],
            raw_data: None,
            ..tensor("c", data_type, &[1], vec![])
        };
        refused(
            &model(vec![node("Add", &["x", "c"], "y")], vec![wide]),
            "holds 65536, which has more than 16 bits",
        );
    }
    assert!(
        [0x7C00, 0xFC00, 0x7E00]
            .map(|bits| {
                let c = tensor("c", dt::FLOAT16, &[1], u16::to_le_bytes(bits).to_vec());
                read(&model(vec![node("Mul", &["x", "c"], "y")], vec![c])).is_err()
            })
            .into_iter()
            .all(|refused| refused)
    );
    // Scales, too.
    let half = edited(qdq(), |g| {
        g.initializer[0] = tensor("s", dt::FLOAT16, &[], 0x3800u16.to_le_bytes().to_vec());
        g.node[1].attribute.push(int("output_dtype", 10));
    });
    assert_eq!(read(&half).unwrap(), read(&qdq()).unwrap());
}

/// A weight may be rounded, clipped and cast where it stands.
#[test]
fn constants_cast_to_integers_are_codes() {
    let cast = |to: i32, w: &[f32]| {
        let nodes = vec![
            node("Round", &["w"], "r"),
            node("Clip", &["r", "lo", "hi"], "c"),
            node("Cast", &["c"], "q").with(int("to", to.into())),
            node("DequantizeLinear", &["q", "s", "z"], "d"),
            node("Conv", &["x", "d"], "y"),
        ];
        let zero = tensor("z", to, &[], vec![0; if to < 4 { 1 } else { 2 }]);
        let limits =
            [real("lo", &[], &[-128.0]), real("hi", &[], &[255.0]), real("s", &[], &[0.5])];
        model(nodes, [vec![real("w", &[2, 2, 1, 1], w), zero], limits.to_vec()].concat())
    };
    for (to, w, expected) in [
        (dt::INT8, [0.5, 1.5, -300.0, 126.6], [0, 2, -128, 127]),
        (dt::UINT8, [0.5, 1.5, 300.0, 126.6], [-128, -126, 127, -1]),
        (dt::INT16, [0.5, 1.5, 300.0, -300.0], [0, 2, 255, -128]),
    ] {
        let graph = read(&cast(to, &w)).unwrap();
        let Some(Constant::Codes(codes)) = &graph.values[graph.nodes[0].inputs[1]].constant else {
            panic!("no codes")
        };
        assert_eq!(codes.widened().data(), expected);
    }
    refused(&cast(dt::INT8, &[0.0, 0.0, 0.0, 200.0]), "overflow: 200 is no int8");
    refused(&cast(dt::UINT8, &[0.0, 0.0, 0.0, -2.0]), "overflow: -2 is no uint8");
}
