# PowerShell: what ark-catalog-container-tool says can be typed.

Register-ArgumentCompleter -Native -CommandName 'ark-catalog-container-tool' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $words = @($commandAst.CommandElements |
        Where-Object { $_.Extent.StartOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    $program, $words = $words
    $words = @($words)
    # Between two words, an empty one is being typed.
    if ($commandAst.CommandElements[-1].Extent.EndOffset -lt $cursorPosition) { $words += '' }
    # Older ones leave empty words out unless they are quoted.
    if ($PSNativeCommandArgumentPassing -notin 'Standard', 'Windows') {
        $words = @($words | ForEach-Object { if ($_ -eq '') { '""' } else { $_ } })
    }
    $paths, $candidates = & $program --complete -- @words 2>$null
    $candidates | Where-Object { $_ } | ForEach-Object {
        $word, $help = $_ -split "`t", 2
        if (-not $help) { $help = $word }
        [System.Management.Automation.CompletionResult]::new($word, $word, 'ParameterValue', $help)
    }
    # Nothing is returned for paths, for which PowerShell then offers files by itself.
}
