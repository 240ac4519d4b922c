// The twin of `round_shift` in arith.rs: q = v / 2^(BASE + shift), rounded once, half to even.
// BASE is wiring; only `shift` costs logic. Three cycles.
`default_nettype none
module round_shift #(
    parameter int IN = 48,                  // bits of v, more than BASE
    parameter int BASE = 20,                // the part of the shift that all values share, at least 1
    parameter int EXTRA = 3,                // bits of the part that they do not share
    parameter int OUT = IN - BASE + 1
) (
    input  wire                    clk,
    input  wire signed [IN-1:0]    v,
    input  wire        [EXTRA-1:0] shift,
    output logic signed [OUT-1:0]  q
);
    // One bit below the point is kept, the others only as whether any is set.
    logic signed [OUT-1:0] a, b;
    logic [OUT-1:0] lost;
    logic a_sticky, b_sticky;
    logic [EXTRA-1:0] a_shift;
    wire below;
    generate
        if (BASE >= 2) begin : g_below
            assign below = |v[BASE-2:0];
        end else begin : g_none
            assign below = 1'b0;
        end
    endgenerate
    always_comb lost = ~({OUT{1'b1}} << a_shift);
    always_ff @(posedge clk) begin
        a <= v[IN-1:BASE-1];
        a_sticky <= below;
        a_shift <= shift;
        b <= a >>> a_shift;
        b_sticky <= a_sticky | (|(a & lost));
        q <= {b[OUT-1], b[OUT-1:1]} + {{(OUT - 1){1'b0}}, b[0] & (b_sticky | b[1])};
    end
endmodule
`default_nettype wire
