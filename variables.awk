# Which variables the verbs asked for read, told from their recipes alone: what a recipe names, in the lists that it takes in
# and in the recipes that it needs first.
#
#   awk -v goals="train" -v given="HORIZONS" -f variables.awk Makefile     one sentence if nothing asked for reads one of them
#   awk -v goals="train" -f variables.awk Makefile                         the variables that they read

# A line ends where no backslash continues it.
{ line = line $0 }
sub(/\\$/, "", line) { next }
{ take(line); line = "" }

# The Makefile's text by the name that it belongs to, a verb's or a variable's.
function take(line, name) {
    gsub(/\$\$/, "", line)
    if (line ~ /^\t/) {
        text[verb] = text[verb] line
    } else if (match(line, /^(override )?[A-Za-z_]+ *[:?+]?= */)) {
        name = substr(line, 1, RLENGTH)
        line = substr(line, RLENGTH + 1)
        ours = name ~ /:= *$/ ? "value" : name ~ /[a-zA-Z_] *= *$/ ? "list" : ""
        gsub(/^override | *[:?+]?= *$/, "", name)
        if (ours) kind[name] = ours
        text[name] = text[name] line
    } else if (match(line, /^[^ #:]+:/)) {
        verb = substr(line, 1, RLENGTH - 1)
        sub(/ ## .*/, "", line)
        needs[verb] = substr(line, RLENGTH + 1)
    }
}

function visit(verb, first, count, i) {
    if (verb in visited) return
    visited[verb]
    follow(text[verb])
    count = split(needs[verb], first, " ")
    for (i = 1; i <= count; i++) if (first[i] in needs) visit(first[i])
}

# $(NAME), $(call flag,NAME,name), and what stands in the definitions of those.
function follow(words, name) {
    while (match(words, /\$\((call [a-z]+,)?[A-Za-z_]+[),]/)) {
        name = substr(words, RSTART + 2, RLENGTH - 3)
        words = substr(words, RSTART + RLENGTH)
        sub(/^call [a-z]+,/, "", name)
        if (name in seen) continue
        seen[name]
        # A list such as STUDY is a part of recipes; given as a variable, it would replace all that stands in it.
        if (kind[name] != "list" && !(name in read)) { read[name]; reads[++found] = name }
        follow(text[name])
    }
}

# Letters to put in, leave out or change: rows of the usual table, one kept.
function distance(a, b, row, last, other, i, j) {
    for (j = 0; j <= length(b); j++) row[j] = j
    for (i = 1; i <= length(a); i++) {
        last = row[0]
        row[0] = i
        for (j = 1; j <= length(b); j++) {
            other = last + (substr(a, i, 1) != substr(b, j, 1))
            last = row[j]
            row[j] = least(other, least(row[j], row[j - 1]) + 1)
        }
    }
    return row[length(b)]
}

function least(a, b) { return a < b ? a : b }

function near(name, i, far, best) {
    far = length(name) / 3
    for (i = 1; i <= found; i++) {
        if (kind[reads[i]] || distance(toupper(name), reads[i]) > far) continue
        far = distance(toupper(name), reads[i]) - 0.5
        best = reads[i]
    }
    return best
}

function listed(i, all) {
    for (i = 1; i <= found; i++) if (!kind[reads[i]]) all = all " " reads[i]
    return substr(all, 2)
}

function refusal(name, how, verb) {
    how = "HELP" in read ? "make " verbs[1] " HELP=1 shows what it reads" : "it reads " listed()
    if (verbs[1] == "help") how = "name the verb that does, as in make sweep BUDGET=20K"
    if (near(name)) how = "did you mean " near(name) "? (" how ")"
    verb = "make " goals " does not read it"
    if (gsub(/ /, " nor make ", goals)) verb = "neither make " goals " reads it"
    return name ": " verb "; " how
}

function refuse(sentence) { print "error: " sentence; exit }

END {
    count = split(goals, verbs, " ")
    for (i = 1; i <= count; i++) if (!(verbs[i] in needs)) exit  # make itself says that there is no such verb
    for (i = 1; i <= count; i++) {
        split("", seen); split("", visited)
        visit(verbs[i])
        # A verb without help would be done.
        if (given ~ /HELP/ && !("HELP" in seen)) refuse("HELP=1: " verbs[i] " has no flags; `make` says what it does")
    }
    if (!given) print listed()
    count = split(given, names, " ")
    for (i = 1; i <= count; i++) if (!(names[i] in read)) refuse(refusal(names[i]))
}
