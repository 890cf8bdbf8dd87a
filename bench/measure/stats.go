package measure

import (
	"math"
	"slices"
)

// Median of v; NaN of nothing. The mean of the two in the middle of an even number.
func Median(v []float64) float64 { return Quantile(v, 0.5) }

// Quantile of v by linear interpolation, q in 0..1; NaN of nothing.
func Quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	at := q * float64(len(v)-1)
	low := int(at)
	if low == len(v)-1 {
		return v[low]
	}
	return v[low] + (at-float64(low))*(v[low+1]-v[low])
}

// Quartiles of v.
func Quartiles(v []float64) (low, high float64) { return Quantile(v, 0.25), Quantile(v, 0.75) }

// Lower is the probability that figures as low as these, against others, come by
// chance: the one-sided test of Mann and Whitney, exact, with ties. It is 1 when
// either side has no figures.
func Lower(these, others []float64) float64 {
	n, m := len(these), len(others)
	if n == 0 || m == 0 {
		return 1
	}
	ranks := doubleRanks(append(slices.Clone(these), others...))
	seen, all := 0, 0
	for i, r := range ranks {
		if i < n {
			seen += r
		}
		all += r
	}
	// ways[k][s]: in how many ways k of the ranks sum up to s.
	ways := make([][]float64, n+1)
	for k := range ways {
		ways[k] = make([]float64, all+1)
	}
	ways[0][0] = 1
	for i, r := range ranks {
		for k := min(i+1, n); k > 0; k-- {
			for s := all; s >= r; s-- {
				ways[k][s] += ways[k-1][s-r]
			}
		}
	}
	var low, total float64
	for s, w := range ways[n] {
		total += w
		if s <= seen {
			low += w
		}
	}
	return low / total
}

// doubleRanks are the ranks of v, from 1, times two: the mean rank of equal
// figures is then a whole number.
func doubleRanks(v []float64) []int {
	sorted := slices.Sorted(slices.Values(v))
	ranks := make([]int, len(v))
	for i, x := range v {
		first, _ := slices.BinarySearch(sorted, x)
		last := first
		for last+1 < len(sorted) && sorted[last+1] == x {
			last++
		}
		ranks[i] = first + 1 + last + 1
	}
	return ranks
}
