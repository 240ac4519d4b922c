// The mean over all POSITIONS of each of CHANNELS, which come [position][channel]: sums as the codes come in, and
// results with those of the last position. The zero point is in C. Where POSITIONS is no power of two a divider takes
// one channel after the other. A code lands 8 cycles after the last one of its channel, or 9 + N with a divider,
// which takes another one N + 4 cycles after it.
`default_nettype none
module mean #(
    parameter int X = 8, parameter int Y = 8,
    parameter int CHANNELS = 64,
    parameter int POSITIONS = 64,
    parameter int SUM = 16,                 // bits of a sum: those of its proved bound
    parameter int SIG = 24,
    parameter logic [SIG-1:0] SIGNIFICAND = 1,
    parameter logic signed [SUM-1:0] C = 0,
    parameter int UP = 0,
    parameter int BASE = 24,
    parameter int DIVIDE = 0,
    parameter int YZ = 0, parameter int LO = -128, parameter int HI = 127
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire  [X-1:0] s_tdata,
    input  wire          s_tvalid,
    output wire          s_tready,
    output wire  [Y-1:0] m_tdata,
    output wire          m_tvalid,
    input  wire          m_tready
);
    localparam int CB = CHANNELS > 1 ? $clog2(CHANNELS) : 1;
    localparam int NB = POSITIONS > 1 ? $clog2(POSITIONS) : 1;
    logic [CB-1:0] c;
    logic [NB-1:0] n;
    logic signed [SUM-1:0] sums [0:CHANNELS-1];
    logic signed [SUM-1:0] sum;
    logic summed;
    wire c_end = c == CB'(CHANNELS - 1);
    wire n_end = n == NB'(POSITIONS - 1);
    wire room, idle, valid;
    wire [Y-1:0] code;
    wire signed [X-1:0] x = s_tdata;
    wire signed [SUM-1:0] total = (n == 0 ? SUM'(0) : sums[c]) + SUM'(x);
    wire go = s_tvalid && s_tready;
    assign s_tready = !n_end || (room && idle);
    always_ff @(posedge clk) begin
        if (go) sums[c] <= total;
        sum <= total;
        summed <= rst_n && go && n_end;
        if (!rst_n) begin
            c <= '0;
            n <= '0;
        end else if (go) begin
            c <= c_end ? '0 : c + 1'b1;
            if (c_end) n <= n_end ? '0 : n + 1'b1;
        end
    end
    generate
        if (DIVIDE != 0) begin : g_divide
            localparam int COUNT = $clog2(POSITIONS + 1);
            logic dividing, ready;
            logic signed [SUM-1:0] centred;
            wire divided;
            assign idle = !dividing;
            always_ff @(posedge clk) begin
                ready <= rst_n && summed;
                centred <= sum + C;
                dividing <= rst_n && ((go && n_end) || (dividing && !divided));
            end
            ratio #(
                .SUM(SUM), .SIG(SIG), .SIGNIFICAND(SIGNIFICAND), .COUNT(COUNT), .BASE(BASE),
                .Y(Y), .YZ(YZ), .LO(LO), .HI(HI)
            ) u_ratio (
                .clk(clk), .rst_n(rst_n), .start(ready), .sum(centred), .count(COUNT'(POSITIONS)),
                .divided(divided), .done(valid), .code(code)
            );
        end else begin : g_shift
            logic [6:0] travelling;
            assign idle = 1'b1;
            assign valid = travelling[6];
            always_ff @(posedge clk) begin
                if (!rst_n) travelling <= '0;
                else travelling <= {travelling[5:0], summed};
            end
            rescale #(
                .ACC(SUM), .SIG(SIG), .UP(UP), .BASE(BASE), .EXTRA(1), .Y(Y), .YZ(YZ), .LO(LO), .HI(HI)
            ) u_rescale (
                .clk(clk), .acc(sum), .bias(C), .significand(SIGNIFICAND), .shift(1'b0), .code(code)
            );
        end
    endgenerate
    landing #(.WIDTH(Y), .DEPTH(16)) u_landing (
        .clk(clk), .rst_n(rst_n), .room(room), .take(go && n_end), .data(code), .valid(valid),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tready(m_tready)
    );
endmodule
`default_nettype wire
