// First in, first out, in distributed memory. Data come out the cycle after they went in, at the earliest.
`default_nettype none
module fifo #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 16                // a power of two
) (
    input  wire              clk,
    input  wire              rst_n,
    input  wire  [WIDTH-1:0] s_tdata,
    input  wire              s_tvalid,
    output wire              s_tready,
    output wire  [WIDTH-1:0] m_tdata,
    output wire              m_tvalid,
    input  wire              m_tready
);
    localparam int A = DEPTH > 1 ? $clog2(DEPTH) : 1;
    logic [WIDTH-1:0] memory [0:DEPTH-1];
    logic [A:0] head, tail;
    wire [A:0] used = head - tail;
    wire push = s_tvalid && s_tready;
    wire pop = m_tvalid && m_tready;
    assign s_tready = used < (A + 1)'(DEPTH);
    assign m_tvalid = head != tail;
    assign m_tdata = memory[tail[A-1:0]];
    always_ff @(posedge clk) begin
        if (push) memory[head[A-1:0]] <= s_tdata;
        if (!rst_n) begin
            head <= '0;
            tail <= '0;
        end else begin
            head <= head + (A + 1)'({1'b0, push});
            tail <= tail + (A + 1)'({1'b0, pop});
        end
    end
endmodule
`default_nettype wire
