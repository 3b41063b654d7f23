#include "textflag.h"

// func called(shared *byte, vector int)
TEXT ·called(SB), NOSPLIT, $0-16
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ shared+0(FP), DI
	MOVQ vector+8(FP), SI
	MOVQ 0(DI), CX
	MOVQ CX, BX
	ANDQ $0xffff, BX
	MOVQ AX, 20480(DI)(BX*8)
	MOVQ AX, 4096(DI)(SI*8)
	INCQ CX
	MOVQ CX, 0(DI)
	RET

// func load(word *byte) uint64
TEXT ·load(SB), NOSPLIT, $0-16
	MOVQ word+0(FP), DI
	MOVQ (DI), AX
	MOVQ AX, ret+8(FP)
	RET

// func store(word *byte, v uint64)
TEXT ·store(SB), NOSPLIT, $0-16
	MOVQ word+0(FP), DI
	MOVQ v+8(FP), AX
	MOVQ AX, (DI)
	RET

// func clock() uint64
TEXT ·clock(SB), NOSPLIT, $0-8
	LFENCE
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET
