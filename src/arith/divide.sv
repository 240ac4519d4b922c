// The twin of `round_ratio` in arith.rs, before its shift: quotient = 2 * floor(numerator / denominator), plus 1
// if the division leaves a remainder. A bit a cycle: `done` is up for the cycle that begins N + 1 cycles after
// `start`.
`default_nettype none
module divide #(
    parameter int N = 40,                   // bits of the numerator
    parameter int D = 8                     // bits of the denominator, which is above 0
) (
    input  wire                  clk,
    input  wire                  rst_n,
    input  wire                  start,
    input  wire signed [N-1:0]   numerator,
    input  wire        [D-1:0]   denominator,
    output logic                 done,
    output wire signed [N:0]     quotient
);
    localparam int B = $clog2(N + 1);
    logic negative;
    logic [N-1:0] bits;                     // those of the numerator leave at the top, those of the quotient enter
    logic [D-1:0] rest, by;
    logic [B-1:0] left;
    wire [D:0] next = {rest, bits[N-1]};
    wire fits = next >= {1'b0, by};
    wire signed [N:0] magnitude = {bits, rest != 0};
    assign quotient = negative ? -magnitude : magnitude;
    always_ff @(posedge clk) begin
        if (start) begin
            negative <= numerator < 0;
            bits <= numerator < 0 ? -numerator : numerator;
            rest <= '0;
            by <= denominator;
        end else if (left != 0) begin
            bits <= {bits[N-2:0], fits};
            rest <= D'(fits ? next - {1'b0, by} : next);
        end
        if (!rst_n) left <= '0;
        else if (start) left <= B'(N);
        else if (left != 0) left <= left - 1'b1;
        done <= rst_n && left == 1 && !start;
    end
endmodule
`default_nettype wire
