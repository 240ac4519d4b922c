// The largest code of each window of each channel, PE channels at a time. The first code lands five cycles after the
// last tap.
`default_nettype none
module max_pool #(
    parameter int X = 8,
    parameter int IH = 32, parameter int IW = 32, parameter int IC = 16,
    parameter int OH = 32, parameter int OW = 32,
    parameter int KH = 2, parameter int KW = 2,
    parameter int SH = 2, parameter int SW = 2,
    parameter int DH = 1, parameter int DW = 1,
    parameter int PT = 0, parameter int PL = 0,
    parameter int PE = 1,                   // no more than taps
    parameter int DEPTH = 16
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire  [X-1:0] s_tdata,
    input  wire          s_tvalid,
    output wire          s_tready,
    output wire  [X-1:0] m_tdata,
    output wire          m_tvalid,
    input  wire          m_tready
);
    localparam int PB = $clog2(PE + 1);
    wire [X*PE-1:0] wide_tdata, x;
    wire wide_tvalid, wide_tready;
    wire credit, tap, first, last, inside_image;
    wire unused = &{1'b0, inside_image};
    widen #(.WIDTH(X), .FACTOR(PE)) u_widen (
        .clk(clk), .rst_n(rst_n), .s_tdata(s_tdata), .s_tvalid(s_tvalid), .s_tready(s_tready),
        .m_tdata(wide_tdata), .m_tvalid(wide_tvalid), .m_tready(wide_tready)
    );
    window #(
        .X(X), .IH(IH), .IW(IW), .IC(IC), .OH(OH), .OW(OW), .GROUPS(IC / PE), .REPEATS(1), .KH(KH), .KW(KW),
        .SH(SH), .SW(SW), .DH(DH), .DW(DW), .PT(PT), .PL(PL), .LANES(PE), .PAD(-(1 << (X - 1)))
    ) u_window (
        .clk(clk), .rst_n(rst_n), .s_tdata(wide_tdata), .s_tvalid(wide_tvalid), .s_tready(wide_tready),
        .credit(credit), .tap(tap), .first(first), .last(last), .x(x), .inside_image(inside_image)
    );
    logic [2:0] t, f, l;
    logic captured;
    logic [PB-1:0] left;
    logic [X*PE-1:0] most, queued;
    always_ff @(posedge clk) begin
        for (int p = 0; p < PE; p = p + 1)
            if (t[2] && (f[2] || $signed(x[X*p+:X]) > $signed(most[X*p+:X]))) most[X*p+:X] <= x[X*p+:X];
        f <= {f[1:0], first};
        l <= {l[1:0], last};
        queued <= captured ? most : queued >> X;
        if (!rst_n) begin
            t <= '0;
            captured <= 1'b0;
            left <= '0;
        end else begin
            t <= {t[1:0], tap};
            captured <= t[2] && l[2];
            if (captured) left <= PB'(PE);
            else if (left != 0) left <= left - 1'b1;
        end
    end
    landing #(.WIDTH(X), .DEPTH(DEPTH), .PER(PE)) u_landing (
        .clk(clk), .rst_n(rst_n), .room(credit), .take(tap && first), .data(queued[X-1:0]), .valid(left != 0),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tready(m_tready)
    );
endmodule
`default_nettype wire
