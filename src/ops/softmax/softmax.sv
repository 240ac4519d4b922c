// y[i] = clamp(rne(exp(x[i] - max) / sum exp(x[j] - max) * SIGNIFICAND / 2^BASE) + YZ, LO, HI) over SIZE codes.
// They are taken in; three cycles for each find the sum; then each is divided, and its code waits until it is taken.
`default_nettype none
module softmax #(
    parameter int X = 8, parameter int Y = 8,
    parameter int SIZE = 10,
    parameter int SIG = 24,
    parameter logic [SIG-1:0] SIGNIFICAND = 1,
    parameter int BASE = 24,
    parameter int YZ = 0, parameter int LO = -128, parameter int HI = 127,
    parameter EXP = "exp.hex"               // by max - x, 24 bits
) (
    input  wire          clk,
    input  wire          rst_n,
    input  wire  [X-1:0] s_tdata,
    input  wire          s_tvalid,
    output wire          s_tready,
    output logic [Y-1:0] m_tdata,
    output wire          m_tvalid,
    input  wire          m_tready
);
    localparam int IB = SIZE > 1 ? $clog2(SIZE) : 1;
    localparam int SUM = 24 + $clog2(SIZE + 1);
    localparam logic [2:0] TAKE = 3'd0, READ = 3'd1, LOOK = 3'd2, ADD = 3'd3, FETCH = 3'd4, DIVIDE = 3'd5, GIVE = 3'd6;
    logic [2:0] state;
    logic [IB-1:0] i;
    logic signed [X-1:0] codes [0:SIZE-1];
    logic [23:0] exps [0:SIZE-1];
    logic [23:0] table_of_exp [0:(1<<X)-1];
    initial $readmemh(EXP, table_of_exp);
    logic signed [X-1:0] most;
    logic [X-1:0] distance;
    logic [23:0] exp, numerator;
    logic [SUM-1:0] sum;
    logic start;
    wire divided, done;
    wire [Y-1:0] code;
    wire unused = &{1'b0, divided};
    wire signed [X-1:0] s = s_tdata;
    wire end_of = i == IB'(SIZE - 1);
    wire [IB-1:0] next = end_of ? '0 : i + 1'b1;
    assign s_tready = state == TAKE;
    assign m_tvalid = state == GIVE;
    always_ff @(posedge clk) begin
        start <= rst_n && state == FETCH;
        if (!rst_n) begin
            state <= TAKE;
            i <= '0;
        end else begin
            unique case (state)
                TAKE: if (s_tvalid) begin
                    i <= next;
                    if (end_of) state <= READ;
                end
                READ: state <= LOOK;
                LOOK: state <= ADD;
                ADD: begin
                    i <= next;
                    state <= end_of ? FETCH : READ;
                end
                FETCH: state <= DIVIDE;
                DIVIDE: if (done) state <= GIVE;
                default: if (m_tready) begin
                    i <= next;
                    state <= end_of ? TAKE : FETCH;
                end
            endcase
        end
        if (state == TAKE && s_tvalid) begin
            codes[i] <= s;
            if (i == 0 || s > most) most <= s;
            sum <= '0;
        end
        distance <= most - codes[i];
        exp <= table_of_exp[distance];
        if (state == ADD) begin
            exps[i] <= exp;
            sum <= sum + SUM'(exp);
        end
        numerator <= exps[i];
        if (done) m_tdata <= code;
    end
    ratio #(
        .SUM(25), .SIG(SIG), .SIGNIFICAND(SIGNIFICAND), .COUNT(SUM), .BASE(BASE), .Y(Y), .YZ(YZ), .LO(LO), .HI(HI)
    ) u_ratio (
        .clk(clk), .rst_n(rst_n), .start(start), .sum({1'b0, numerator}), .count(sum),
        .divided(divided), .done(done), .code(code)
    );
endmodule
`default_nettype wire
