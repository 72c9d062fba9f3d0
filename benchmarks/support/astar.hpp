// SPDX-License-Identifier: BSL-1.0
#pragma once

// A* on the 15-puzzle: the workload that pools of equal blocks are made for. Every successor is a
// node from the memory resource, made before anybody knows whether its board is new; half of them
// are not, and go back at once. All others stay until the end.
//
//      open_[f]     node ⇄ node ⇄ node      by f = g + h, the deepest (latest) first
//      known_[hash] node → node             every board that was met, by its hash
//
// The heuristic is the Manhattan distance. It is consistent, so a closed board is never reopened,
// and the first solution is a shortest one. The goal is 0 1 2 … 15, 0 being the blank.
// Source: Hart, Nilsson and Raphael, "A Formal Basis for the Heuristic Determination of Minimum
// Cost Paths", 1968; Korf, "Depth-First Iterative-Deepening", 1985 (goal and instances).

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <new>
#include <utility>
#include <vector>

namespace strata::bench {

/// Sixteen cells of four bits, row by row, the first one lowest.
class board {
  public:
    explicit constexpr board(std::array<int, 16> const& tiles) {
        for (unsigned cell = 0; cell < 16; ++cell)
            cells_ |= static_cast<std::uint64_t>(tiles[cell]) << 4 * cell;
    }

    [[nodiscard]] constexpr unsigned tile(unsigned cell) const { return cells_ >> 4 * cell & 15u; }

    /// Returns: the board after the tile of `cell` slid into the blank.
    [[nodiscard]] constexpr board slid(unsigned cell, unsigned blank) const {
        std::uint64_t const moved = tile(cell);
        board after = *this;
        after.cells_ ^= moved << 4 * cell | moved << 4 * blank;
        return after;
    }

    [[nodiscard]] constexpr unsigned blank() const {
        unsigned cell = 0;
        while (tile(cell) != 0)
            ++cell;
        return cell;
    }

    /// Returns: 32 bits that depend on all cells.
    [[nodiscard]] constexpr std::uint64_t hash() const {
        return cells_ * 0x9E37'79B9'7F4A'7C15u >> 32;
    }

    constexpr bool operator==(board const&) const = default;

  private:
    std::uint64_t cells_ = 0;
};

/// Returns: moves that a tile needs at least from one cell to the other.
constexpr int cell_distance(unsigned a, unsigned b) {
    auto const difference = [](unsigned x, unsigned y) {
        return static_cast<int>(x > y ? x - y : y - x);
    };
    return difference(a / 4, b / 4) + difference(a % 4, b % 4);
}

constexpr int manhattan_distance(board const& b) {
    int sum = 0;
    for (unsigned cell = 0; cell < 16; ++cell)
        sum += b.tile(cell) != 0 ? cell_distance(cell, b.tile(cell)) : 0;
    return sum;
}

struct puzzle {
    char const* name;
    std::array<int, 16> tiles;
    int shortest; ///< moves
};

/// Of Korf's table of 100 random boards, 1985, by the number there, three that few nodes solve; and
/// one that is six moves away from the last, for which half a million nodes are kept.
inline constexpr puzzle puzzles[] = {
    {"Korf 12", {14, 1, 9, 6, 4, 8, 12, 5, 7, 2, 3, 0, 10, 11, 13, 15}, 45},
    {"Korf 55", {13, 8, 14, 3, 9, 1, 0, 7, 15, 5, 4, 10, 12, 2, 6, 11}, 41},
    {"Korf 79", {0, 1, 9, 7, 11, 13, 5, 3, 14, 12, 4, 2, 8, 6, 10, 15}, 42},
    {"Korf 79 + 6", {0, 13, 9, 7, 1, 12, 5, 3, 11, 14, 4, 2, 8, 6, 10, 15}, 42},
};

class astar {
  public:
    struct node {
        board state;
        node* parent;
        node* next; // in open_
        node* previous;
        node* next_known; // in known_
        std::uint8_t blank;
        std::uint8_t moves;    // from the start: g
        std::uint8_t distance; // to the goal, at least: h
        bool closed;
    };

    /// Nodes come from `nodes` (held, not owned), tables from the heap.
    explicit astar(std::pmr::memory_resource* nodes) : nodes_{nodes}, known_(table_size) {}
    astar(astar const&) = delete;
    astar& operator=(astar const&) = delete;
    ~astar() { clear(); }

    /// Searches; the nodes that it met stay until the next call or the destructor.
    /// Returns: the last node of a shortest solution, `parent` leading back to the start; null
    /// where there is none within 80 moves (which solve every board that can be solved).
    /// Throws: what the resource throws.
    node const* solve(board start) {
        clear();
        node* const first = make(start, nullptr, start.blank(), 0, manhattan_distance(start));
        remember(first);
        push(first);
        while (node* const best = pop_best()) {
            if (best->distance == 0)
                return best;
            expand(best);
        }
        return nullptr;
    }

    /// Gives every node back to the resource, one by one.
    void clear() {
        for (node*& head : known_)
            while (head != nullptr)
                drop(std::exchange(head, head->next_known));
        open_ = {};
        best_f_ = 0;
        generated_ = expanded_ = kept_ = 0;
    }

    [[nodiscard]] std::size_t generated() const { return generated_; } ///< nodes made
    [[nodiscard]] std::size_t expanded() const { return expanded_; }   ///< nodes closed
    [[nodiscard]] std::size_t kept() const { return kept_; }           ///< nodes held now

  private:
    static constexpr std::size_t table_size = 1u << 18;
    static constexpr std::size_t most_moves = 80; // the hardest boards need as many

    void expand(node* from) {
        ++expanded_;
        unsigned const blank = from->blank;
        if (blank >= 4)
            step(from, blank - 4);
        if (blank % 4 != 0)
            step(from, blank - 1);
        if (blank % 4 != 3)
            step(from, blank + 1);
        if (blank < 12)
            step(from, blank + 4);
    }

    // The tile of `cell` slides: a node is made, and kept if its board is new or reached sooner.
    void step(node* from, unsigned cell) {
        unsigned const tile = from->state.tile(cell);
        int const distance =
            from->distance + cell_distance(from->blank, tile) - cell_distance(cell, tile);
        node* const to =
            make(from->state.slid(cell, from->blank), from, cell, from->moves + 1, distance);
        node* const old = find(to->state);
        if (old == nullptr && to->moves + distance <= static_cast<int>(most_moves)) {
            remember(to);
            push(to);
            return;
        }
        if (old != nullptr &&
            to->moves < old->moves) { // old is open, or it would be no shorter way
            unlink(old);
            old->parent = from;
            old->moves = to->moves;
            push(old);
        }
        drop(to);
    }

    node* make(board state, node* parent, unsigned blank, int moves, int distance) {
        ++generated_;
        void* const p = nodes_->allocate(sizeof(node), alignof(node));
        ++kept_;
        return ::new (p) node{state,
                              parent,
                              nullptr,
                              nullptr,
                              nullptr,
                              static_cast<std::uint8_t>(blank),
                              static_cast<std::uint8_t>(moves),
                              static_cast<std::uint8_t>(distance),
                              false};
    }
    void drop(node* n) {
        nodes_->deallocate(n, sizeof(node), alignof(node));
        --kept_;
    }

    [[nodiscard]] node*& chain(board const& state) { return known_[state.hash() % table_size]; }
    void remember(node* n) {
        n->next_known = chain(n->state);
        chain(n->state) = n;
    }
    [[nodiscard]] node* find(board const& state) {
        node* n = chain(state);
        while (n != nullptr && n->state != state)
            n = n->next_known;
        return n;
    }

    [[nodiscard]] node*& bucket(node const* n) {
        return open_[static_cast<std::size_t>(n->moves + n->distance)];
    }
    void push(node* n) {
        node*& head = bucket(n);
        n->previous = nullptr;
        n->next = head;
        if (head != nullptr)
            head->previous = n;
        head = n;
    }
    void unlink(node* n) {
        if (n->next != nullptr)
            n->next->previous = n->previous;
        (n->previous != nullptr ? n->previous->next : bucket(n)) = n->next;
    }
    // A consistent heuristic lets f only grow, so the search for the best bucket does not go back.
    node* pop_best() {
        while (best_f_ <= most_moves && open_[best_f_] == nullptr)
            ++best_f_;
        if (best_f_ > most_moves)
            return nullptr;
        node* const n = open_[best_f_];
        unlink(n);
        n->closed = true;
        return n;
    }

    std::pmr::memory_resource* nodes_;
    std::vector<node*> known_;
    std::array<node*, most_moves + 1> open_{};
    std::size_t best_f_ = 0;
    std::size_t generated_ = 0;
    std::size_t expanded_ = 0;
    std::size_t kept_ = 0;
};

} // namespace strata::bench
