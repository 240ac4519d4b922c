// Sums of products of the taps of `window` with constant weights, PE at a time, and their codes.
//
// A group is TAPS beats long. Each of its beats multiplies SIMD codes with PE * SIMD weights; if LANEWISE, PE codes
// with a weight each. The PE sums then pass one rescale unit, one a cycle, while the next group is summed: PE <= TAPS.
// The first code lands 14 cycles after the last tap, one more where products are added before the sum.
`default_nettype none
module product #(
    parameter int X = 8,                    // bits of a code that comes in
    parameter int W = 8,                    // of a weight
    parameter int CHANNELS = 16,            // of the result
    parameter int TAPS = 144,
    parameter int LANEWISE = 0,
    parameter int SIMD = 1,
    parameter int PE = 1,
    parameter int ACC = 24,
    parameter logic signed [ACC-1:0] BOUND = 0,
    parameter int SIG = 24,
    parameter int UP = 0,
    parameter int BASE = 20,
    parameter int EXTRA = 3,
    parameter int Y = 8,
    parameter int YZ = 0,
    parameter int LO = -128,
    parameter int HI = 127,
    parameter int DEPTH = 32,               // of the fifo where results land
    parameter WEIGHTS = "weights.hex",
    parameter CONSTANTS = "constants.hex",
    parameter int LANES = LANEWISE != 0 ? PE : SIMD
) (
    input  wire                clk,
    input  wire                rst_n,
    output wire                credit,
    input  wire                tap,
    input  wire                first,
    input  wire                last,
    input  wire  [X*LANES-1:0] x,           // three cycles after tap
    output wire  [Y-1:0]       m_tdata,
    output wire                m_tvalid,
    input  wire                m_tready
);
    localparam int WORD = W * (LANEWISE != 0 ? PE : PE * SIMD);
    localparam int WORDS = CHANNELS / PE * TAPS;
    localparam int WA = WORDS > 1 ? $clog2(WORDS) : 1;
    localparam int CA = CHANNELS > 1 ? $clog2(CHANNELS) : 1;
    localparam int PB = $clog2(PE + 1);
    localparam int TREE = SIMD > 1 && LANEWISE == 0 ? 1 : 0;
    // No more bits than the sum, which has none to lose.
    localparam int M = X + W < ACC ? X + W : ACC;
    localparam int S = M + (TREE != 0 ? $clog2(SIMD) : 0) < ACC ? M + (TREE != 0 ? $clog2(SIMD) : 0) : ACC;

    // Weights: one word a tap, in the order of taps.
    logic [WORD-1:0] weights [0:WORDS-1];
    initial $readmemh(WEIGHTS, weights);
    logic [WA-1:0] w_at;
    logic [WORD-1:0] w0, w1, w2;
    always_ff @(posedge clk) begin
        if (!rst_n) w_at <= '0;
        else if (tap) w_at <= w_at == WA'(WORDS - 1) ? '0 : w_at + 1'b1;
        w0 <= weights[w_at];
        w1 <= w0;
        w2 <= w1;
    end

    // What is known of a tap travels with it to the sum.
    localparam int AT = 3 + TREE;
    logic [AT:0] t, f, l;
    always_ff @(posedge clk) begin
        if (!rst_n) t <= '0;
        else t <= {t[AT-1:0], tap};
        f <= {f[AT-1:0], first};
        l <= {l[AT-1:0], last};
    end

    wire [PE*ACC-1:0] sums;
    genvar p, i;
    generate
        for (p = 0; p < PE; p = p + 1) begin : g_pe
            logic signed [S-1:0] s;
            logic signed [ACC-1:0] acc;
            if (TREE != 0) begin : g_tree
                logic signed [M-1:0] m [0:SIMD-1];
                logic signed [S-1:0] total;
                for (i = 0; i < SIMD; i = i + 1) begin : g_simd
                    always_ff @(posedge clk) m[i] <= $signed(x[X*i+:X]) * $signed(w2[W*(p*SIMD+i)+:W]);
                end
                always_comb begin
                    total = '0;
                    for (int k = 0; k < SIMD; k = k + 1) total = total + S'(m[k]);
                end
                always_ff @(posedge clk) s <= total;
            end else begin : g_one
                localparam int LANE = LANEWISE != 0 ? p : 0;
                always_ff @(posedge clk) s <= $signed(x[X*LANE+:X]) * $signed(w2[W*p+:W]);
            end
            always_ff @(posedge clk) if (t[AT]) acc <= f[AT] ? ACC'(s) : acc + ACC'(s);
            assign sums[ACC*p+:ACC] = acc;
        end
    endgenerate

    // The sums one after the other, with the constants of their channels.
    logic captured;
    logic [PE*ACC-1:0] queued;
    logic [PB-1:0] left;
    logic [CA-1:0] channel;
    logic [ACC+SIG+EXTRA-1:0] constants [0:CHANNELS-1];
    initial $readmemh(CONSTANTS, constants);
    logic [ACC+SIG+EXTRA-1:0] constant;
    logic signed [ACC-1:0] sum;
    wire signed [ACC-1:0] bias = constant[ACC-1:0];
    always_ff @(posedge clk) begin
        if (!rst_n) begin
            captured <= 1'b0;
            left <= '0;
            channel <= '0;
        end else begin
            captured <= t[AT] && l[AT];
            if (captured) left <= PB'(PE);
            else if (left != 0) left <= left - 1'b1;
            if (left != 0) channel <= channel == CA'(CHANNELS - 1) ? '0 : channel + 1'b1;
        end
        queued <= captured ? sums : queued >> ACC;
        sum <= queued[ACC-1:0];
        constant <= constants[channel];
    end

    logic [7:0] travelling;
    always_ff @(posedge clk) begin
        if (!rst_n) travelling <= '0;
        else travelling <= {travelling[6:0], left != 0};
    end
`ifndef SYNTHESIS
    always_ff @(posedge clk)
        if (rst_n && travelling[0] && (sum + bias > BOUND || sum + bias < -BOUND))
            $fatal(1, "a sum of products is beyond its bound");
`endif
    wire [Y-1:0] code;
    rescale #(
        .ACC(ACC), .SIG(SIG), .UP(UP), .BASE(BASE), .EXTRA(EXTRA), .Y(Y), .YZ(YZ), .LO(LO), .HI(HI)
    ) u_rescale (
        .clk(clk), .acc(sum), .bias(bias), .significand(constant[ACC+:SIG]),
        .shift(constant[ACC+SIG+:EXTRA]), .code(code)
    );
    landing #(.WIDTH(Y), .DEPTH(DEPTH), .PER(PE)) u_landing (
        .clk(clk), .rst_n(rst_n), .room(credit), .take(tap && first), .data(code), .valid(travelling[7]),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tready(m_tready)
    );
endmodule
`default_nettype wire
