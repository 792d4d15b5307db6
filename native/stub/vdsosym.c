/* Symbols of the host's vDSO, read from the copy in this process. See vdsosym.h and vdso(7). */
#include "vdsosym.h"

#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

/* Number of dynamic symbols by the GNU hash table (the vDSO has no section headers one could count
 * on). */
static u32 gnu_hash_count(const u32 *hash)
{
    u32 nbuckets = hash[0], symoffset = hash[1], bloom = hash[2], last = 0;
    const u32 *buckets = hash + 4 + bloom * 2, *chain = buckets + nbuckets;

    for (u32 i = 0; i < nbuckets; i++)
        if (buckets[i] > last)
            last = buckets[i];
    if (last < symoffset)
        return symoffset;
    while (!(chain[last - symoffset] & 1))
        last++;
    return last + 1;
}

u64 cn_vdso_offset(const char *name)
{
    const u8 *base = (const u8 *)getauxval(AT_SYSINFO_EHDR);
    const Elf64_Ehdr *eh = (const Elf64_Ehdr *)base;
    const Elf64_Dyn *dyn = NULL;
    const Elf64_Sym *sym = NULL;
    const char *str = NULL;
    u64 vaddr = 0;
    u32 n = 0;

    if (!base)
        return 0;
    const Elf64_Phdr *ph = (const Elf64_Phdr *)(base + eh->e_phoff);
    for (int i = 0; i < eh->e_phnum; i++) {
        if (ph[i].p_type == PT_LOAD && !vaddr)
            vaddr = ph[i].p_vaddr - ph[i].p_offset;
        if (ph[i].p_type == PT_DYNAMIC)
            dyn = (const Elf64_Dyn *)(base + ph[i].p_offset);
    }
    for (; dyn && dyn->d_tag != DT_NULL; dyn++) {
        const u8 *at = base + (dyn->d_un.d_ptr - vaddr);
        if (dyn->d_tag == DT_SYMTAB)
            sym = (const Elf64_Sym *)at;
        else if (dyn->d_tag == DT_STRTAB)
            str = (const char *)at;
        else if (dyn->d_tag == DT_HASH)
            n = ((const u32 *)at)[1];
        else if (dyn->d_tag == DT_GNU_HASH && !n)
            n = gnu_hash_count((const u32 *)at);
    }
    if (!sym || !str)
        return 0;
    for (u32 i = 0; i < n; i++)
        if (sym[i].st_shndx != SHN_UNDEF && !strcmp(str + sym[i].st_name, name))
            return sym[i].st_value - vaddr;
    return 0;
}
