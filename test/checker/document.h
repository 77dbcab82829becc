/*
 * document.h
 *		Takes a register's document apart.
 */
#ifndef DOCUMENT_H
#define DOCUMENT_H

#include "history.h"

/*
 * Reads what a document says; text is NULL for no row.  False if it is not a
 * document of a register at all.
 */
extern bool document_parse(const char *text, Seen *seen);

#endif							/* DOCUMENT_H */
