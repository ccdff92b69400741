# Lines of WHAT|OURS|BASELINE|UNIT|GOAL|LIMIT as a table. GOAL is
#   ratio    ours is LIMIT times the baseline at most
#   value    ours is LIMIT at most, in UNIT; the baseline is for comparison
#   least    ours is LIMIT times the baseline at least (what is better when larger)
function number(text) { return text ~ /^[0-9.]+$/ }
function figure(n) { return sprintf(n < 10 ? "%.2f" : n < 100 ? "%.1f" : "%.0f", n) }
function put(what, ours, base, ratio, goal, met) {
	printf "%-67s %12s %12s %7s  %-10s %s\n", what, ours, base, ratio, goal, met
}
BEGIN { put("WHAT", "OURS", "BASELINE", "RATIO", "GOAL", "MET") }
{
	ratio = number($2) && number($3) && $3 > 0 ? $2 / $3 : ""
	goal = $5 == "ratio" ? "<= " $6 "x" : $5 == "least" ? ">= " $6 "x" : $5 == "value" ? "<= " $6 " " $4 : "-"
	met = "-"
	if ($5 == "value" && number($2))
		met = $2 <= $6 ? "yes" : "NO"
	else if ($5 == "ratio" && ratio != "")
		met = ratio <= $6 ? "yes" : "NO"
	else if ($5 == "least" && ratio != "")
		met = ratio >= $6 ? "yes" : "NO"
	put($1, number($2) ? figure($2) " " $4 : $2, number($3) ? figure($3) " " $4 : $3,
		ratio == "" ? "-" : sprintf("%.2f", ratio), goal, met)
}
