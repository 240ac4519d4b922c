// threads MODEL: two threads share a network, each with a session of its own; prints the sums of their outputs.
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>
#include "naive_ptq.h"

static void check(naive_ptq_status status)
{
    if (status != NAIVE_PTQ_OK) {
        throw std::runtime_error(naive_ptq_error());
    }
}

struct Free {
    void operator()(naive_ptq_network *network) const { naive_ptq_free(network); }
    void operator()(naive_ptq_session *session) const { naive_ptq_close(session); }
};
using Network = std::unique_ptr<naive_ptq_network, Free>;
using Session = std::unique_ptr<naive_ptq_session, Free>;

static Network load(const char *path)
{
    naive_ptq_network *network;
    check(naive_ptq_load(path, 1, &network));
    return Network(network);
}

static double run(const naive_ptq_network *network, float brightness)
{
    naive_ptq_session *opened;
    check(naive_ptq_open(network, &opened));
    const Session session(opened);
    naive_ptq_value input, output;
    check(naive_ptq_input(network, 0, &input));
    check(naive_ptq_output(network, 0, &output));
    const std::vector<float> image(input.count, brightness);
    std::vector<float> logits(output.count);
    check(naive_ptq_set(session.get(), 0, image.data(), image.size()));
    check(naive_ptq_run(session.get()));
    check(naive_ptq_get(session.get(), 0, logits.data(), logits.size()));
    double sum = 0;
    for (float logit : logits) {
        sum += logit;
    }
    return sum;
}

int main(int count, char **arguments)
{
    try {
        const Network network = load(count > 1 ? arguments[1] : "int8.onnx");
        double dark = 0, bright = 0;
        std::thread other([&] { dark = run(network.get(), 0.0f); });
        bright = run(network.get(), 1.0f);
        other.join();
        std::printf("%.4f %.4f\n", dark, bright);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
