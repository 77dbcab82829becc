/*
 * libfuzzer.c
 *		libFuzzer in place of replay.c: test/fuzz/run.
 */
#include "fuzz.h"

extern int	LLVMFuzzerRunDriver(int *argc, char ***argv,
								int (*test) (const uint8 *bytes, size_t len));

int
fuzz_main(int argc, char **argv)
{
	/* to merge, it starts itself anew by a shell, which our library must not be in */
	if (getenv("FUZZ_COMMAND"))
		argv[0] = getenv("FUZZ_COMMAND");
	unsetenv("LD_PRELOAD");
	return LLVMFuzzerRunDriver(&argc, &argv, LLVMFuzzerTestOneInput);
}
