/*
 * fuzz.h
 *		What the fuzz targets share.
 *
 * A target is a function that is handed one input.  It calls the extension's
 * own functions, checks what comes back, and leaves nothing behind: memory is
 * taken with palloc, and given back when the input ends.
 *
 * An error that a target does not catch, and a check that does not hold, end
 * the program: these are what is looked for.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "compat.h"

typedef void (*FuzzTarget) (const uint8 *bytes, size_t len);

extern void fuzz_record(const uint8 *bytes, size_t len);
extern void fuzz_marker(const uint8 *bytes, size_t len);
extern void fuzz_key(const uint8 *bytes, size_t len);
extern void fuzz_document(const uint8 *bytes, size_t len);
extern void fuzz_options(const uint8 *bytes, size_t len);
extern void fuzz_settings(const uint8 *bytes, size_t len);
extern void fuzz_redis(const uint8 *bytes, size_t len);
extern void fuzz_memcached(const uint8 *bytes, size_t len);
extern void fuzz_answer(const uint8 *bytes, size_t len);

/* ---------- checks ---------- */

/* What must hold; the message says in which case it does not. */
extern void fuzz_failed(const char *condition, const char *file, int line,
						const char *format,...) pg_attribute_printf(4, 5) pg_attribute_noreturn();

#define expect(condition, ...) \
	((condition) ? (void) 0 : fuzz_failed(#condition, __FILE__, __LINE__, __VA_ARGS__))

/*
 * Call a function that may raise an error; false if it did.  An internal
 * error ("cannot happen") ends the program: no input may lead to one.
 */
extern bool fuzz_try(void (*function) (void *arg), void *arg);

/* ---------- inputs ---------- */

typedef struct Input
{
	const uint8 *at;
	size_t		left;
} Input;

/* 0 where the input has ended. */
extern uint8 input_byte(Input *input);
extern uint32 input_number(Input *input);
/* A copy of the next bytes, as many as a byte before them says, or of all; and a zero byte. */
extern char *input_bytes(Input *input, size_t *len);
extern char *input_rest(Input *input, size_t *len);
/* The same as a text: it ends at the first zero byte. */
extern char *input_text(Input *input);

/* ---------- the program: backend.c, replay.c ---------- */

extern int	LLVMFuzzerTestOneInput(const uint8 *bytes, size_t len);
extern int	fuzz_main(int argc, char **argv);

#endif							/* FUZZ_H */
