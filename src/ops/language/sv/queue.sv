// First in, first out, of any DEPTH, in block memory; one more beat is in the register behind it. Data come out
// two cycles after they went in, at the earliest. It stands where branches join.
`default_nettype none
module queue #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 512
) (
    input  wire              clk,
    input  wire              rst_n,
    input  wire  [WIDTH-1:0] s_tdata,
    input  wire              s_tvalid,
    output wire              s_tready,
    output logic [WIDTH-1:0] m_tdata,
    output logic             m_tvalid,
    input  wire              m_tready
);
    localparam int A = DEPTH > 1 ? $clog2(DEPTH) : 1;
    localparam int U = $clog2(DEPTH + 1);
    logic [WIDTH-1:0] memory [0:DEPTH-1];
    logic [A-1:0] head, tail;
    logic [U-1:0] used;
    wire push = s_tvalid && s_tready;
    wire load = used != 0 && (!m_tvalid || m_tready);
    assign s_tready = used != U'(DEPTH);
    always_ff @(posedge clk) begin
        if (push) memory[head] <= s_tdata;
        if (load) m_tdata <= memory[tail];
        if (!rst_n) begin
            head <= '0;
            tail <= '0;
            used <= '0;
            m_tvalid <= 1'b0;
        end else begin
            if (push) head <= head == A'(DEPTH - 1) ? '0 : head + 1'b1;
            if (load) tail <= tail == A'(DEPTH - 1) ? '0 : tail + 1'b1;
            used <= used + U'({1'b0, push}) - U'({1'b0, load});
            m_tvalid <= load || (m_tvalid && !m_tready);
        end
    end
endmodule
`default_nettype wire
