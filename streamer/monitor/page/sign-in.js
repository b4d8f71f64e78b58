// Says so where the token that was given is not the one.
document.getElementById("wrong").hidden = location.search !== "?wrong";
