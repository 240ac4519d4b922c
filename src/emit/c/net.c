/* See net.h. Compile this file alone: it includes the kernels, and the compiler folds the constants
   below into them. -DNET_ASSERT checks that no accumulator leaves its proven bound. */
#include "net.h"

#define CODE_BITS @BITS
typedef net_code_t code_t;
typedef int@WEIGHT_BITS_t weight_t;
typedef int@ACC_BITS_t acc_t;

#if defined(__GNUC__)
#define KERNEL static inline __attribute__((always_inline))
#define ALIGNED __attribute__((aligned(4)))
#else
#define KERNEL static inline
#define ALIGNED
#endif

#ifdef NET_ASSERT
#include <assert.h>
#define ASSERT_BOUND(acc, bound) assert((acc) <= (bound) && (acc) >= -(bound))
#endif

#ifdef NET_TRACE
#define TRACE(layer, codes, count) net_trace(layer, codes, count)
#else
#define TRACE(layer, codes, count) ((void)0)
#endif

#include "arith.h"
