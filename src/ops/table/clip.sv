// y = table[x - lowest code]: any function of one code. A code lands the cycle after its argument went in.
`default_nettype none
module clip #(
    parameter int X = 8, parameter int Y = 8,
    parameter TABLE = "table.hex"           // by the bits of x
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
    logic [Y-1:0] codes [0:(1<<X)-1];
    initial $readmemh(TABLE, codes);
    logic [Y-1:0] code;
    logic valid;
    wire go = s_tvalid && s_tready;
    always_ff @(posedge clk) begin
        code <= codes[s_tdata];
        valid <= rst_n && go;
    end
    landing #(.WIDTH(Y), .DEPTH(4)) u_landing (
        .clk(clk), .rst_n(rst_n), .room(s_tready), .take(go), .data(code), .valid(valid),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tready(m_tready)
    );
endmodule
`default_nettype wire
