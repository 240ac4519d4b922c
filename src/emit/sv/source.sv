// For tests: gives the codes of a file, in each cycle with this probability.
`default_nettype none
module source #(
    parameter int WIDTH = 8,
    parameter int COUNT = 1,
    parameter CODES = "codes.hex"
) (
    input  wire              clk,
    input  wire              rst_n,
    input  wire       [31:0] percent,
    output logic [WIDTH-1:0] m_tdata,
    output logic             m_tvalid,
    input  wire              m_tready
);
    logic [WIDTH-1:0] codes [0:COUNT-1];
    initial $readmemh(CODES, codes);
    int i;
    always_ff @(posedge clk) begin
        if (!rst_n) begin
            i <= 0;
            m_tvalid <= 1'b0;
        end else if (!m_tvalid || m_tready) begin
            if (i < COUNT && $urandom % 100 < percent) begin
                m_tdata <= codes[i];
                m_tvalid <= 1'b1;
                i <= i + 1;
            end else m_tvalid <= 1'b0;
        end
    end
endmodule
`default_nettype wire
