/*
 * backend.c
 *		The extension within the server's program, without a server.
 *
 * All of the extension's objects and the targets are one library that is
 * preloaded into "postgres".  It takes the place of main(), so that every
 * function of the server is there, as it is in production, but no cluster: no
 * catalog, no shared memory, no transaction.  What needs these is replaced
 * below, for the extension's own calls.
 *
 * Memory comes from a context whose every chunk is a malloc() of its own, for
 * the server's functions as well: that lets AddressSanitizer see each byte
 * that is read or written outside of one.  Such contexts can be made in
 * PostgreSQL 15 only; with later versions it sees whole blocks.
 */
#include "fuzz.h"

#include <dlfcn.h>
#include <stdarg.h>

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "access/xlog.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "nodes/memnodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "guc.h"

static const struct
{
	const char *name;
	FuzzTarget	function;
}			targets[] =
{
	{"record", fuzz_record},
	{"marker", fuzz_marker},
	{"key", fuzz_key},
	{"document", fuzz_document},
	{"options", fuzz_options},
	{"settings", fuzz_settings},
	{"redis", fuzz_redis},
	{"memcached", fuzz_memcached},
	{"answer", fuzz_answer},
};

static FuzzTarget target = NULL;
static MemoryContext input_context = NULL;

/* ---------- what the extension would ask a catalog or the cluster ---------- */

Oid
FindDefaultConversion(Oid name_space, int32 for_encoding, int32 to_encoding)
{
	return InvalidOid;
}

Oid
FindDefaultConversionProc(int32 for_encoding, int32 to_encoding)
{
	return InvalidOid;
}

Oid
getBaseType(Oid type)
{
	return type;
}

char *
format_type_be(Oid type)
{
	return psprintf("type %u", type);
}

char *
get_database_name(Oid dbid)
{
	return pstrdup("fuzz");
}

uint64
GetSystemIdentifier(void)
{
	return UINT64CONST(0x0123456789ABCDEF);
}

/* ---------- memory ---------- */

#if PG_VERSION_NUM < 160000

typedef struct Chunk
{
	dlist_node	node;
	Size		size;
	MemoryContext context;		/* must be last */
} Chunk;

typedef struct ChunkContext
{
	MemoryContextData header;
	dlist_head	chunks;
} ChunkContext;

static void *
chunk_alloc(MemoryContext context, Size size)
{
	Chunk	   *chunk = malloc(sizeof(Chunk) + size);

	if (chunk == NULL)
		return NULL;
	chunk->size = size;
	chunk->context = context;
	dlist_push_head(&((ChunkContext *) context)->chunks, &chunk->node);
	return chunk + 1;
}

static void
chunk_free(MemoryContext context, void *pointer)
{
	Chunk	   *chunk = (Chunk *) pointer - 1;

	dlist_delete(&chunk->node);
	free(chunk);
}

static void *
chunk_realloc(MemoryContext context, void *pointer, Size size)
{
	void	   *moved = chunk_alloc(context, size);

	if (moved == NULL)
		return NULL;
	memcpy(moved, pointer, Min(size, ((Chunk *) pointer - 1)->size));
	chunk_free(context, pointer);
	return moved;
}

static void
chunk_reset(MemoryContext context)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &((ChunkContext *) context)->chunks)
		free(dlist_container(Chunk, node, iter.cur));
	dlist_init(&((ChunkContext *) context)->chunks);
}

static void
chunk_delete(MemoryContext context)
{
	chunk_reset(context);
	free(context);
}

static Size
chunk_space(MemoryContext context, void *pointer)
{
	return ((Chunk *) pointer - 1)->size;
}

static bool
chunk_is_empty(MemoryContext context)
{
	return dlist_is_empty(&((ChunkContext *) context)->chunks);
}

static void
chunk_stats(MemoryContext context, MemoryStatsPrintFunc print, void *arg,
			MemoryContextCounters *totals, bool to_stderr)
{
}

static const MemoryContextMethods chunk_methods = {
	.alloc = chunk_alloc,
	.free_p = chunk_free,
	.realloc = chunk_realloc,
	.reset = chunk_reset,
	.delete_context = chunk_delete,
	.get_chunk_space = chunk_space,
	.is_empty = chunk_is_empty,
	.stats = chunk_stats,
};

static MemoryContext
make_input_context(void)
{
	ChunkContext *context = malloc(sizeof(ChunkContext));

	dlist_init(&context->chunks);
	MemoryContextCreate((MemoryContext) context, T_AllocSetContext, &chunk_methods,
						TopMemoryContext, "fuzz input");
	return (MemoryContext) context;
}

#else

static MemoryContext
make_input_context(void)
{
	return AllocSetContextCreate(TopMemoryContext, "fuzz input", ALLOCSET_DEFAULT_SIZES);
}

#endif

/* ---------- inputs and checks ---------- */

uint8
input_byte(Input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->at++;
}

uint32
input_number(Input *input)
{
	uint32		number = 0;

	for (int i = 0; i < 4; i++)
		number = number << 8 | input_byte(input);
	return number;
}

static char *
take_input(Input *input, size_t n, size_t *len)
{
	char	   *copy;

	n = Min(n, input->left);
	copy = palloc(n + 1);
	memcpy(copy, input->at, n);
	copy[n] = '\0';
	input->at += n;
	input->left -= n;
	if (len)
		*len = n;
	return copy;
}

char *
input_bytes(Input *input, size_t *len)
{
	size_t		n = input_byte(input);

	return take_input(input, n, len);
}

char *
input_rest(Input *input, size_t *len)
{
	return take_input(input, input->left, len);
}

char *
input_text(Input *input)
{
	/* in memory of its own length */
	return pstrdup(input_bytes(input, NULL));
}

void
fuzz_failed(const char *condition, const char *file, int line, const char *format,...)
{
	va_list		args;

	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

bool
fuzz_try(void (*function) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool good = true;

	PG_TRY();
	{
		function(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		expect(geterrcode() != ERRCODE_INTERNAL_ERROR, "%s", CopyErrorData()->message);
		FlushErrorState();
		good = false;
	}
	PG_END_TRY();
	return good;
}

int
LLVMFuzzerTestOneInput(const uint8 *bytes, size_t len)
{
	MemoryContextSwitchTo(input_context);
	PG_TRY();
	{
		target(bytes, len);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(TopMemoryContext);
		fuzz_failed("no error", __FILE__, __LINE__, "%s", CopyErrorData()->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(input_context);
	return 0;
}

/* ---------- main ---------- */

static bool
choose_target(const char *name)
{
	for (int i = 0; i < (int) lengthof(targets); i++)
	{
		if (strcmp(targets[i].name, name) == 0)
			target = targets[i].function;
	}
	return target != NULL;
}

/* The environment says which target, so that all arguments are libFuzzer's. */
static int
backend_main(int argc, char **argv, char **environment)
{
	const char *name = getenv("FUZZ_TARGET");

	if (name == NULL || !choose_target(name))
	{
		fprintf(stderr, "FUZZ_TARGET is none of:");
		for (int i = 0; i < (int) lengthof(targets); i++)
			fprintf(stderr, " %s", targets[i].name);
		fprintf(stderr, "\n");
		return 2;
	}
	(void) set_stack_base();
	MemoryContextInit();
	input_context = make_input_context();
	InitializeGUCOptions();
	SetConfigOption("log_min_messages", "fatal", PGC_SUSET, PGC_S_OVERRIDE);
	guc_define();
	SetDatabaseEncoding(PG_UTF8);
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "fuzz");
	return fuzz_main(argc, argv);
}

/* The C library is handed our main() in place of the server's. */
extern PGDLLEXPORT int __libc_start_main(int (*main) (int, char **, char **), int argc,
										 char **argv, void (*init) (void), void (*fini) (void),
										 void (*rtld_fini) (void), void *stack_end);

int
__libc_start_main(int (*main) (int, char **, char **), int argc, char **argv,
				  void (*init) (void), void (*fini) (void), void (*rtld_fini) (void),
				  void *stack_end)
{
	int			(*start) (int (*) (int, char **, char **), int, char **, void (*) (void),
						  void (*) (void), void (*) (void), void *);

	*(void **) &start = dlsym(RTLD_NEXT, "__libc_start_main");
	return start(backend_main, argc, argv, init, fini, rtld_fini, stack_end);
}
