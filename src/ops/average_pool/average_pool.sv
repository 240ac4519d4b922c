// The mean of each window of each channel; of the taps inside the image only, if COUNTED. Where that is no constant
// power of two a divider takes one window after the other, and the next begins when it has divided.
// A code lands 11 cycles after the last tap, or 12 + N with a divider, which has divided four before.
`default_nettype none
module average_pool #(
    parameter int X = 8, parameter int Y = 8,
    parameter int IH = 32, parameter int IW = 32, parameter int IC = 16,
    parameter int OH = 32, parameter int OW = 32,
    parameter int KH = 2, parameter int KW = 2,
    parameter int SH = 2, parameter int SW = 2,
    parameter int PT = 0, parameter int PL = 0,
    parameter int SUM = 16,                 // bits of a sum: those of its proved bound
    parameter int SIG = 24,
    parameter logic [SIG-1:0] SIGNIFICAND = 1,
    parameter logic signed [SUM-1:0] C = 0, // KH * KW times the zero point, which pads the image, is taken away
    parameter int UP = 0,
    parameter int BASE = 24,
    parameter int DIVIDE = 0,
    parameter int COUNTED = 0,
    parameter int XZ = 0, parameter int YZ = 0, parameter int LO = -128, parameter int HI = 127,
    parameter int DEPTH = 32
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
    localparam int COUNT = $clog2(KH * KW + 1);
    wire room, idle, tap, first, last, inside_image, valid;
    wire signed [X-1:0] x;
    wire [Y-1:0] code;
    window #(
        .X(X), .IH(IH), .IW(IW), .IC(IC), .OH(OH), .OW(OW), .GROUPS(IC), .REPEATS(1), .KH(KH), .KW(KW),
        .SH(SH), .SW(SW), .PT(PT), .PL(PL), .PAD(XZ)
    ) u_window (
        .clk(clk), .rst_n(rst_n), .s_tdata(s_tdata), .s_tvalid(s_tvalid), .s_tready(s_tready),
        .credit(room && idle), .tap(tap), .first(first), .last(last), .x(x), .inside_image(inside_image)
    );
    logic [2:0] t, f, l;
    logic signed [SUM-1:0] sum;
    logic summed;
    always_ff @(posedge clk) begin
        f <= {f[1:0], first};
        l <= {l[1:0], last};
        if (t[2]) sum <= (f[2] ? SUM'(0) : sum) + SUM'(x);
        if (!rst_n) begin
            t <= '0;
            summed <= 1'b0;
        end else begin
            t <= {t[1:0], tap};
            summed <= t[2] && l[2];
        end
    end
    generate
        if (DIVIDE != 0) begin : g_divide
            logic dividing, ready;
            logic [COUNT-1:0] inside_taps, count;
            logic signed [SUM-1:0] centred;
            wire divided;
            assign idle = !dividing;
            always_ff @(posedge clk) begin
                if (t[2]) inside_taps <= (f[2] ? COUNT'(0) : inside_taps) + COUNT'(inside_image);
                count <= COUNTED != 0 ? inside_taps : COUNT'(KH * KW);
                ready <= rst_n && summed;
                centred <= sum + C;
                dividing <= rst_n && ((tap && first) || (dividing && !divided));
            end
            ratio #(
                .SUM(SUM), .SIG(SIG), .SIGNIFICAND(SIGNIFICAND), .COUNT(COUNT), .BASE(BASE),
                .Y(Y), .YZ(YZ), .LO(LO), .HI(HI)
            ) u_ratio (
                .clk(clk), .rst_n(rst_n), .start(ready), .sum(centred), .count(count),
                .divided(divided), .done(valid), .code(code)
            );
        end else begin : g_shift
            logic [6:0] travelling;
            wire unused = &{1'b0, inside_image};
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
    landing #(.WIDTH(Y), .DEPTH(DEPTH)) u_landing (
        .clk(clk), .rst_n(rst_n), .room(room), .take(tap && first), .data(code), .valid(valid),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tready(m_tready)
    );
endmodule
`default_nettype wire
