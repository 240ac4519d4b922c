//! The outputs of the reference.

use @NAME::{INPUT_SIZE, Net, OUTPUT_SIZE};

const INPUTS: [[@CODE; INPUT_SIZE]; @COUNT] = [
@INPUTS
];
const OUTPUTS: [[@CODE; OUTPUT_SIZE]; @COUNT] = [
@OUTPUTS
];

#[test]
fn outputs_are_those_of_the_reference() {
    let mut net = Box::new(Net::new());
    for (i, (input, expected)) in INPUTS.iter().zip(&OUTPUTS).enumerate() {
        let mut output = [0; OUTPUT_SIZE];
        net.run(input, &mut output);
        assert_eq!(&output, expected, "vector {i}");
    }
}
