package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// bbolt's file format, as far as pointers go. A page begins with its id, flags,
// count of elements, and how many pages more it covers; an element is fixed in
// size and says where its key and value are, counted from itself. A bucket's
// value is the id of its root page and a sequence; if that id is zero, the page
// itself follows.
const (
	pageHeader   = 16
	elementSize  = 16
	bucketHeader = 16
	branchFlag   = 1
	leafFlag     = 2
	bucketFlag   = 1
)

// pages follows every pointer in a database, over bytes that were read and not
// mapped: bbolt trusts pointers, and one to nowhere is a fault.
type pages struct {
	content []byte
	size    uint64
	seen    map[uint64]bool
}

// checkPages answers an error when a pointer that can be reached from the page
// root leads out of content, or to a page that another one leads to.
func checkPages(content []byte, pageSize int, root uint64) error {
	if pageSize < pageHeader {
		return fmt.Errorf("pages of %d bytes", pageSize)
	}
	p := pages{content: content, size: uint64(pageSize), seen: make(map[uint64]bool)}
	_, err := p.page(root)
	return err
}

// page checks the page with that id and what it leads to. It answers its first
// key, nil when there is none.
func (p *pages) page(id uint64) ([]byte, error) {
	count := uint64(len(p.content)) / p.size
	if id >= count {
		return nil, fmt.Errorf("a pointer to page %d of %d", id, count)
	}
	begin := p.content[id*p.size:]
	more := uint64(binary.NativeEndian.Uint32(begin[12:]))
	if own := binary.NativeEndian.Uint64(begin); own != id {
		return nil, fmt.Errorf("page %d says it is page %d", id, own)
	}
	if id+more >= count {
		return nil, fmt.Errorf("page %d of %d says that %d more belong to it", id, count, more)
	}
	for n := id; n <= id+more; n++ {
		if p.seen[n] {
			return nil, fmt.Errorf("two pointers to page %d", n)
		}
		p.seen[n] = true
	}
	first, err := p.elements(begin[:(1+more)*p.size])
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return first, nil
}

// elements checks the elements of a page, which may be part of a leaf, and
// answers its first key.
func (p *pages) elements(page []byte) ([]byte, error) {
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	check := p.leaf
	switch {
	case flags == branchFlag:
		check = p.branch
	case flags != leafFlag:
		return nil, fmt.Errorf("a page of kind %#x among the data", flags)
	}
	if pageHeader+count*elementSize > len(page) {
		return nil, fmt.Errorf("%d elements in %d bytes", count, len(page))
	}
	var first []byte
	for i := range count {
		key, err := check(page[pageHeader+i*elementSize:])
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		if i == 0 {
			first = key
		}
	}
	return first, nil
}

// branch checks a branch element, with which the bytes begin, and answers its
// key: the first one of the page it leads to.
func (p *pages) branch(element []byte) ([]byte, error) {
	position := uint64(binary.NativeEndian.Uint32(element))
	end := position + uint64(binary.NativeEndian.Uint32(element[4:]))
	if end > uint64(len(element)) {
		return nil, errors.New("a key outside its page")
	}
	first, err := p.page(binary.NativeEndian.Uint64(element[8:]))
	if err != nil {
		return nil, err
	}
	key := element[position:end]
	if !bytes.Equal(key, first) {
		return nil, fmt.Errorf("%q leads to %q", key, first)
	}
	return key, nil
}

// leaf checks a leaf element, with which the bytes begin, and answers its key.
func (p *pages) leaf(element []byte) ([]byte, error) {
	position := uint64(binary.NativeEndian.Uint32(element[4:]))
	middle := position + uint64(binary.NativeEndian.Uint32(element[8:]))
	end := middle + uint64(binary.NativeEndian.Uint32(element[12:]))
	if end > uint64(len(element)) {
		return nil, errors.New("a key or a value outside its page")
	}
	key, value := element[position:middle], element[middle:end]
	if binary.NativeEndian.Uint32(element)&bucketFlag == 0 {
		return key, nil
	}
	if err := p.bucket(value); err != nil {
		return nil, fmt.Errorf("bucket %q: %w", key, err)
	}
	return key, nil
}

// bucket checks the value of a bucket.
func (p *pages) bucket(value []byte) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("%d bytes", len(value))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		_, err := p.page(root)
		return err
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader {
		return fmt.Errorf("%d bytes", len(value))
	}
	_, err := p.elements(inline)
	return err
}
