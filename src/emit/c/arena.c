#ifdef NET_CALLER_ARENA
void net_run(const net_code_t *input, net_code_t *output, void *arena)
{
    code_t *const memory = arena;
#else
static union {
    code_t codes[NET_ARENA_SIZE / sizeof(code_t)];
    int32_t at_a_multiple_of_its_size;
} arena;

@PLACES
void net_run(const net_code_t *input, net_code_t *output)
{
    code_t *const memory = arena.codes;
#endif
